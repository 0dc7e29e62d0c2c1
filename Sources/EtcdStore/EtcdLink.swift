// One connection to one member: HTTP/1.1, one question at a time.

internal import Crypto
internal import EtcdMessages
internal import Glibc
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOSSL
internal import NIOTLS

/// What a connection has to tell its engine.
enum LinkEvent {
    /// Questions can be asked.
    case opened
    /// The whole answer to the last question.
    case answer(status: UInt, body: [UInt8])
    /// A line of an answer that goes on without end.
    case line([UInt8])
    /// It is over, and nothing else comes. Not told when the engine itself ended it.
    case closed(EtcdError)
}

/// A connection. Everything but its making happens in the event loop: hence `@unchecked`.
final class EtcdLink: @unchecked Sendable {
    private enum State {
        case opening, idle
        /// Nothing of the answer was seen yet; or its status.
        case asking(isStream: Bool, status: UInt?)
        case closed
    }

    /// Larger answers are refused: etcd splits those of watches, and pages are asked for in sizes
    /// below it.
    static let answerOctetsMaximum = 24 << 20
    /// The kernel asks a peer that has been silent for a second three times, a second apart, and
    /// gives up what was sent and not acknowledged for as long (tcp(7)).
    private static let keepAliveSeconds: Int = 1
    private static let keepAliveProbes: Int = 3
    private static let userTimeoutMilliseconds: Int = 4000

    /// Which endpoint of the configuration it goes to.
    let place: Int
    let endpoint: EtcdEndpoint
    private let loop: any EventLoop
    private var tell: ((LinkEvent) -> Void)?
    private var state = State.opening
    private var channel: (any Channel)?
    private var patience: Scheduled<Void>?
    private var body: [UInt8] = []
    private var endsAfterAnswer = false
    /// With TLS: what the certificate at the other end must have.
    private var wantedName: ServerName?

    /// Begins to connect. `tell` is never called before this returns.
    init(
        to endpoint: EtcdEndpoint, at place: Int, security: NIOSSLContext?, serverName: String?,
        patience: TimeAmount, loop: any EventLoop, tell: @escaping (LinkEvent) -> Void
    ) {
        self.place = place
        self.endpoint = endpoint
        self.loop = loop
        self.tell = tell
        self.patience = loop.assumeIsolated().scheduleTask(in: patience) { [weak self] in
            self?.end(.unreachable(endpoint, reason: "no connection in time"))
        }
        // Later: on the loop, a connection could be there before its maker knows it.
        loop.execute { [self] in connect(security, serverName, patience) }
    }

    private func connect(
        _ security: NIOSSLContext?, _ serverName: String?, _ patience: TimeAmount
    ) {
        guard case .opening = state else { return }
        ClientBootstrap(group: loop)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(Self.option(TCP_KEEPIDLE), value: Self.keepAliveSeconds)
            .channelOption(Self.option(TCP_KEEPINTVL), value: Self.keepAliveSeconds)
            .channelOption(Self.option(TCP_KEEPCNT), value: Self.keepAliveProbes)
            .channelOption(Self.option(TCP_USER_TIMEOUT), value: Self.userTimeoutMilliseconds)
            .connectTimeout(patience)
            .channelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture {
                    try prepare(channel, security, serverName)
                }
            }
            .connect(host: endpoint.host, port: Int(endpoint.port))
            .whenFailure { [self] error in
                end(.unreachable(endpoint, reason: Self.reason(error)))
            }
    }

    private static func option(_ name: CInt) -> ChannelOptions.Types.SocketOption {
        ChannelOptions.Types.SocketOption(level: .tcp, name: NIOBSDSocket.Option(rawValue: name))
    }

    private func prepare(
        _ channel: any Channel, _ security: NIOSSLContext?, _ serverName: String?
    ) throws {
        guard case .opening = state else { throw ChannelError.alreadyClosed }
        let pipeline = channel.pipeline.syncOperations
        if let security {
            let name = ServerName(serverName ?? endpoint.host)
            wantedName = name
            try pipeline.addHandler(
                NIOSSLClientHandler(context: security, serverHostname: name.indication))
        }
        try pipeline.addHandler(HTTPRequestEncoder())
        try pipeline.addHandler(ByteToMessageHandler(HTTPResponseDecoder()))
        try pipeline.addHandler(LinkHandler(self, isSecure: security != nil))
        self.channel = channel
    }

    // MARK: The engine's side

    /// True when it can take a question.
    var isIdle: Bool { if case .idle = state { true } else { false } }
    /// True while it is being made.
    var isOpening: Bool { if case .opening = state { true } else { false } }

    /// Asks. Precondition: it is idle.
    func ask(_ question: EtcdQuestion) {
        guard case .idle = state, let channel else {
            preconditionFailure("one question at a time")
        }
        state = .asking(isStream: question.form == .watch, status: nil)
        var head = HTTPRequestHead(version: .http1_1, method: .POST, uri: question.path)
        head.headers.add(name: "Host", value: endpoint.description)
        head.headers.add(name: "Content-Type", value: "application/json")
        head.headers.add(name: "Content-Length", value: "\(question.body.count)")
        // A member without a leader says so at once, and ends watches.
        head.headers.add(name: "Grpc-Metadata-hasleader", value: "true")
        channel.write(HTTPClientRequestPart.head(head), promise: nil)
        let body = channel.allocator.buffer(bytes: question.body)
        channel.write(HTTPClientRequestPart.body(.byteBuffer(body)), promise: nil)
        channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
    }

    /// Ends it without a word.
    func close() {
        tell = nil
        end(.silent(endpoint))
    }

    /// Whether octets are taken from it.
    func setReading(_ isReading: Bool) {
        channel?.setOption(.autoRead, value: isReading).whenComplete { _ in }
    }

    // MARK: The channel's side

    fileprivate func opened() {
        guard case .opening = state else { return }
        patience?.cancel()
        patience = nil
        state = .idle
        tell?(.opened)
    }

    /// The chain of the certificate is good: is it for the host that was asked for?
    fileprivate func proved(_ octets: [UInt8]?) {
        guard let octets, let certificate = try? Certificate(der: octets),
            wantedName?.matches(certificate.alternativeNames) == true
        else {
            end(.untrusted(endpoint, reason: "its certificate is for another host"))
            return
        }
        opened()
    }

    fileprivate func failed(_ error: any Error) {
        switch error {
        case let error as NIOSSLError:
            end(.untrusted(endpoint, reason: "\(error)"))
        case is BoringSSLError, is NIOSSLExtraError:
            end(.untrusted(endpoint, reason: "\(error)"))
        case is HTTPParserError:
            malformed("no HTTP: \(error)")
        default:
            end(.unreachable(endpoint, reason: Self.reason(error)))
        }
    }

    fileprivate func disconnected() {
        end(.unreachable(endpoint, reason: "the connection ended"))
    }

    fileprivate func take(_ part: HTTPClientResponsePart) {
        guard case .asking(let isStream, let status) = state else {
            malformed("an answer that nobody asked for")
            return
        }
        switch part {
        case .head(let head):
            endsAfterAnswer = !head.isKeepAlive
            state = .asking(isStream: isStream, status: head.status.code)
        case .body(let octets):
            guard body.count + octets.readableBytes <= Self.answerOctetsMaximum else {
                malformed("an answer without end")
                return
            }
            let searched = body.count
            body += octets.readableBytesView
            if isStream, status == 200 { takeLines(searched: searched) }
        case .end:
            let answer = exchange(&body, with: [])
            // A stream that was refused has an answer like any other.
            guard let status, !(isStream && status == 200) else {
                end(.unreachable(endpoint, reason: "the watch ended"))
                return
            }
            guard endsAfterAnswer else {
                state = .idle
                tell?(.answer(status: status, body: answer))
                return
            }
            // No other question may be asked of it.
            let tell = exchange(&tell, with: nil)
            disconnected()
            tell?(.answer(status: status, body: answer))
            tell?(.closed(.unreachable(endpoint, reason: "it ends connections")))
        }
    }

    private func takeLines(searched: Int) {
        let newline = UInt8(ascii: "\n")
        guard var end = body[searched...].firstIndex(of: newline) else { return }
        var start = 0
        while true {
            let line = Array(body[start..<end])
            start = end + 1
            if !line.isEmpty { tell?(.line(line)) }
            // Whoever is told may end it.
            guard case .asking = state else { return }
            guard let next = body[start...].firstIndex(of: newline) else { break }
            end = next
        }
        body.removeFirst(start)
    }

    private func malformed(_ reason: String) {
        end(.malformed(endpoint, reason: reason))
    }

    private func end(_ error: EtcdError) {
        if case .closed = state { return }
        state = .closed
        patience?.cancel()
        patience = nil
        body = []
        let tell = exchange(&self.tell, with: nil)
        exchange(&channel, with: nil)?.close(promise: nil)
        tell?(.closed(error))
    }

    private static func reason(_ error: any Error) -> String {
        switch error {
        case let error as NIOConnectionError:
            error.connectionErrors.first.map { reason($0.error) }
                ?? "the name \(error.host) has no address"
        case let error as IOError: String(cString: strerror(error.errnoCode))
        case ChannelError.connectTimeout: "no connection in time"
        default: "\(error)"
        }
    }
}

/// Hands what comes on the channel to its link.
private final class LinkHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let link: EtcdLink
    private let isSecure: Bool

    init(_ link: EtcdLink, isSecure: Bool) {
        self.link = link
        self.isSecure = isSecure
    }

    func channelActive(context: ChannelHandlerContext) {
        if !isSecure { link.opened() }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case TLSUserEvent.handshakeCompleted = event else { return }
        let certificate = try? context.pipeline.syncOperations.nioSSL_peerCertificate()
        link.proved(try? certificate?.toDERBytes())
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        link.take(unwrapInboundIn(data))
    }

    func channelInactive(context: ChannelHandlerContext) { link.disconnected() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { link.failed(error) }
}
