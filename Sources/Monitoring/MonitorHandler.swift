// One connection: one request, one answer, and the end. Whoever is slow, large or unclear is cut
// off: everything here is bounded in number, size and time.

internal import GatewayIO
internal import NIOCore
internal import NIOHTTP1
internal import Synchronization

/// How many connections there are.
final class ConnectionCount: Sendable {
    /// Prometheus needs one.
    static let maximum = 16
    private let count = Mutex(0)

    /// False: there are too many.
    func begin() -> Bool {
        count.withLock {
            guard $0 < Self.maximum else { return false }
            $0 += 1
            return true
        }
    }

    func end() { count.withLock { $0 -= 1 } }
}

/// The answer to one request. Everything happens in the event loop.
final class MonitorHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    /// From the first octet of the request to the last one of the answer.
    private static let patience = TimeAmount.seconds(5)
    private static let headerBytes = 16 << 10
    private static let bodyBytes = 4 << 10

    private let desk: MonitorDesk
    private let more: @Sendable () -> [Metric]
    private var head: HTTPRequestHead?
    private var bodyCount = 0
    private var isAnswered = false

    private init(_ desk: MonitorDesk, _ more: @escaping @Sendable () -> [Metric]) {
        self.desk = desk
        self.more = more
    }

    /// Puts everything into a new connection; throws when there are too many.
    static func prepare(
        _ channel: any Channel, _ desk: MonitorDesk, _ connections: ConnectionCount,
        _ more: @escaping @Sendable () -> [Metric]
    ) throws {
        guard connections.begin() else { throw ChannelError.eof }
        channel.closeFuture.whenComplete { _ in connections.end() }
        let end = channel.eventLoop.scheduleTask(in: patience) { channel.close(promise: nil) }
        channel.closeFuture.whenComplete { _ in end.cancel() }
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = headerBytes
        limits.maxHeaderListSize = headerBytes
        limits.maxHeaderFieldCount = 64
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(HTTPResponseEncoder())
        try pipeline.addHandler(
            ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: limits)))
        try pipeline.addHandler(MonitorHandler(desk, more))
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isAnswered else { return }
        switch unwrapInboundIn(data) {
        case .head(let head): self.head = head
        case .body(let octets):
            bodyCount += octets.readableBytes
            if bodyCount > Self.bodyBytes {
                answer(context, .payloadTooLarge, "requests have no bodies here")
            }
        case .end:
            if let head { answer(context, head) }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard error is HTTPParserError, !isAnswered else { return context.close(promise: nil) }
        answer(context, .badRequest, "that is no request")
    }

    // MARK: Answers

    private func answer(_ context: ChannelHandlerContext, _ head: HTTPRequestHead) {
        guard head.method == .GET || head.method == .HEAD else {
            return answer(context, .methodNotAllowed, "GET and HEAD are known")
        }
        let path = head.uri.prefix { $0 != "?" }
        guard path == "/metrics" || path == "/healthz" else {
            return answer(context, .notFound, "there are /metrics and /healthz")
        }
        let reading = desk.reading(on: context.eventLoop)
        reading.assumeIsolated().whenSuccess { [self] reading in
            if path == "/metrics" {
                tellMetrics(context, reading)
            } else {
                let health = Health(reading)
                answer(context, health.isGood ? .ok : .serviceUnavailable, health.text)
            }
        }
    }

    private func tellMetrics(_ context: ChannelHandlerContext, _ reading: NodeReading?) {
        guard let reading else {
            return answer(context, .serviceUnavailable, Health(nil).text)
        }
        var text = ""
        for metric in reading.metrics() + more() + ProcessMetrics.all() {
            metric.write(to: &text)
        }
        answer(context, .ok, text, type: "text/plain; version=0.0.4; charset=utf-8")
    }

    /// The whole answer; a text without a line end gets one.
    private func answer(
        _ context: ChannelHandlerContext, _ status: HTTPResponseStatus, _ text: String,
        type: String = "text/plain; charset=utf-8"
    ) {
        guard !isAnswered, context.channel.isActive else { return }
        isAnswered = true
        let line = text.hasSuffix("\n") ? text : text + "\n"
        let body = context.channel.allocator.buffer(string: line)
        var answer = HTTPResponseHead(version: .http1_1, status: status)
        answer.headers.add(name: "Content-Type", value: type)
        answer.headers.add(name: "Content-Length", value: "\(body.readableBytes)")
        answer.headers.add(name: "Connection", value: "close")
        if status == .methodNotAllowed { answer.headers.add(name: "Allow", value: "GET, HEAD") }
        context.write(wrapOutboundOut(.head(answer)), promise: nil)
        if head?.method != .HEAD {
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil))).assumeIsolated().whenComplete { _ in
            context.close(promise: nil)
        }
    }
}
