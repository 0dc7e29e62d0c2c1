// The part of an IKE SA's state that is about the synchronization of counters.

extension StateWriter {
    private mutating func put(_ content: MessageIDSync) {
        put(content.nonce)
        put(content.sendID)
        put(content.receiveID)
    }

    mutating func put(_ sync: CounterSync) {
        switch sync.stage {
        case .none: put(UInt8(0))
        case .wanted(let wish):
            put(UInt8(1))
            put(wish.delta)
            put(wish.sendID)
            put(UInt16(clamping: wish.repetitions))
        case .sent(let request):
            put(UInt8(2))
            put(request.content)
            put(request.datagrams)
            put(UInt16(clamping: request.repetitions))
            put(request.repeatAt)
            put(request.patience)
            put(request.isGivenUp)
        }
        put(sync.granted) { writer, granted in
            writer.put(granted.nonce)
            writer.put(granted.sendID)
            writer.put(granted.response)
        }
    }
}

extension StateReader {
    private mutating func stage() throws(IKEStateFault) -> CounterSync.Stage {
        let place = offset
        switch try next(UInt8.self) {
        case 0: return .none
        case 1:
            return .wanted(
                CounterSync.Wish(
                    delta: try next(), sendID: try next(),
                    repetitions: Int(try next(UInt16.self))))
        case 2:
            let content = MessageIDSync(
                nonce: try next(), sendID: try next(), receiveID: try next())
            return .sent(
                CounterSync.Request(
                    content: content, datagrams: try datagrams(),
                    repetitions: Int(try next(UInt16.self)), repeatAt: try next(),
                    patience: try next(), isGivenUp: try flag()))
        default: throw .malformed(.synchronization, at: place)
        }
    }

    mutating func sync() throws(IKEStateFault) -> CounterSync {
        var sync = CounterSync()
        sync.stage = try stage()
        sync.granted = try optional { reader throws(IKEStateFault) in
            CounterSync.Granted(
                nonce: try reader.next(), sendID: try reader.next(),
                response: try reader.datagrams())
        }
        return sync
    }
}
