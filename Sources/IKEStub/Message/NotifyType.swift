// IANA's "IKEv2 Notify Message Types" that this implementation handles, or has to name in a log.

/// What a Notify payload says.
public enum NotifyType: UInt16, CaseIterable, Sendable {
    // RFC 7296 §3.10.1: errors.
    case unsupportedCriticalPayload = 1
    case invalidIKESPI = 4
    case invalidMajorVersion
    case invalidSyntax = 7
    case invalidMessageID = 9
    case invalidSPI = 11
    case noProposalChosen = 14
    case invalidKEPayload = 17
    case authenticationFailed = 24
    case singlePairRequired = 34
    case noAdditionalSAs
    case internalAddressFailure
    case failedCPRequired
    case tsUnacceptable
    case invalidSelectors
    // RFC 4555.
    case unacceptableAddresses
    case unexpectedNATDetected
    // RFC 7296 §3.10.1.
    case temporaryFailure = 43
    case childSANotFound
    // RFC 7296 §3.10.1: status.
    case initialContact = 16384
    case setWindowSize
    case additionalTSPossible
    case ipcompSupported
    case natDetectionSourceIP
    case natDetectionDestinationIP
    case cookie
    case useTransportMode
    case httpCertLookupSupported
    case rekeySA
    case espTFCPaddingNotSupported
    case nonFirstFragmentsAlso
    // RFC 4555.
    case mobikeSupported
    case additionalIP4Address
    case additionalIP6Address
    case noAdditionalAddresses
    case updateSAAddresses
    case cookie2
    case noNATsAllowed
    // RFC 4478.
    case authLifetime
    // RFC 4739.
    case multipleAuthSupported
    case anotherAuthFollows
    // RFC 5685.
    case redirectSupported
    case redirect
    case redirectedFrom
    // RFC 5723.
    case ticketLTOpaque
    case ticketRequest
    case ticketAck
    case ticketNack
    case ticketOpaque
    // RFC 5998.
    case eapOnlyAuthentication = 16417
    // RFC 6023.
    case childlessIKEv2Supported
    // RFC 6290.
    case quickCrashDetection
    // RFC 6311.
    case messageIDSyncSupported
    case replayCounterSyncSupported
    case messageIDSync
    case replayCounterSync
    // RFC 7383.
    case fragmentationSupported = 16430
    // RFC 7427.
    case signatureHashAlgorithms
    // RFC 8784.
    case usePPK = 16435
    case ppkIdentity
    case noPPKAuth
    // RFC 9242.
    case intermediateExchangeSupported
    // RFC 9370.
    case additionalKeyExchange = 16441
    // RFC 9611.
    case saResourceInfo = 16444

    /// True for errors, which end the exchange; false for statuses, which may be ignored when they
    /// are unknown (RFC 7296 §3.10.1).
    public var isError: Bool { rawValue < 16384 }

    /// The name that the RFC prints.
    public var name: String {
        switch self {
        case .unsupportedCriticalPayload: "UNSUPPORTED_CRITICAL_PAYLOAD"
        case .invalidIKESPI: "INVALID_IKE_SPI"
        case .invalidMajorVersion: "INVALID_MAJOR_VERSION"
        case .invalidSyntax: "INVALID_SYNTAX"
        case .invalidMessageID: "INVALID_MESSAGE_ID"
        case .invalidSPI: "INVALID_SPI"
        case .noProposalChosen: "NO_PROPOSAL_CHOSEN"
        case .invalidKEPayload: "INVALID_KE_PAYLOAD"
        case .authenticationFailed: "AUTHENTICATION_FAILED"
        case .singlePairRequired: "SINGLE_PAIR_REQUIRED"
        case .noAdditionalSAs: "NO_ADDITIONAL_SAS"
        case .internalAddressFailure: "INTERNAL_ADDRESS_FAILURE"
        case .failedCPRequired: "FAILED_CP_REQUIRED"
        case .tsUnacceptable: "TS_UNACCEPTABLE"
        case .invalidSelectors: "INVALID_SELECTORS"
        case .unacceptableAddresses: "UNACCEPTABLE_ADDRESSES"
        case .unexpectedNATDetected: "UNEXPECTED_NAT_DETECTED"
        case .temporaryFailure: "TEMPORARY_FAILURE"
        case .childSANotFound: "CHILD_SA_NOT_FOUND"
        case .initialContact: "INITIAL_CONTACT"
        case .setWindowSize: "SET_WINDOW_SIZE"
        case .additionalTSPossible: "ADDITIONAL_TS_POSSIBLE"
        case .ipcompSupported: "IPCOMP_SUPPORTED"
        case .natDetectionSourceIP: "NAT_DETECTION_SOURCE_IP"
        case .natDetectionDestinationIP: "NAT_DETECTION_DESTINATION_IP"
        case .cookie: "COOKIE"
        case .useTransportMode: "USE_TRANSPORT_MODE"
        case .httpCertLookupSupported: "HTTP_CERT_LOOKUP_SUPPORTED"
        case .rekeySA: "REKEY_SA"
        case .espTFCPaddingNotSupported: "ESP_TFC_PADDING_NOT_SUPPORTED"
        case .nonFirstFragmentsAlso: "NON_FIRST_FRAGMENTS_ALSO"
        case .mobikeSupported: "MOBIKE_SUPPORTED"
        case .additionalIP4Address: "ADDITIONAL_IP4_ADDRESS"
        case .additionalIP6Address: "ADDITIONAL_IP6_ADDRESS"
        case .noAdditionalAddresses: "NO_ADDITIONAL_ADDRESSES"
        case .updateSAAddresses: "UPDATE_SA_ADDRESSES"
        case .cookie2: "COOKIE2"
        case .noNATsAllowed: "NO_NATS_ALLOWED"
        case .authLifetime: "AUTH_LIFETIME"
        case .multipleAuthSupported: "MULTIPLE_AUTH_SUPPORTED"
        case .anotherAuthFollows: "ANOTHER_AUTH_FOLLOWS"
        case .redirectSupported: "REDIRECT_SUPPORTED"
        case .redirect: "REDIRECT"
        case .redirectedFrom: "REDIRECTED_FROM"
        case .ticketLTOpaque: "TICKET_LT_OPAQUE"
        case .ticketRequest: "TICKET_REQUEST"
        case .ticketAck: "TICKET_ACK"
        case .ticketNack: "TICKET_NACK"
        case .ticketOpaque: "TICKET_OPAQUE"
        case .eapOnlyAuthentication: "EAP_ONLY_AUTHENTICATION"
        case .childlessIKEv2Supported: "CHILDLESS_IKEV2_SUPPORTED"
        case .quickCrashDetection: "QUICK_CRASH_DETECTION"
        case .messageIDSyncSupported: "IKEV2_MESSAGE_ID_SYNC_SUPPORTED"
        case .replayCounterSyncSupported: "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED"
        case .messageIDSync: "IKEV2_MESSAGE_ID_SYNC"
        case .replayCounterSync: "IPSEC_REPLAY_COUNTER_SYNC"
        case .fragmentationSupported: "IKEV2_FRAGMENTATION_SUPPORTED"
        case .signatureHashAlgorithms: "SIGNATURE_HASH_ALGORITHMS"
        case .usePPK: "USE_PPK"
        case .ppkIdentity: "PPK_IDENTITY"
        case .noPPKAuth: "NO_PPK_AUTH"
        case .intermediateExchangeSupported: "INTERMEDIATE_EXCHANGE_SUPPORTED"
        case .additionalKeyExchange: "ADDITIONAL_KEY_EXCHANGE"
        case .saResourceInfo: "SA_RESOURCE_INFO"
        }
    }
}
