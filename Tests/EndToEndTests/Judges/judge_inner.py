"""judge_inner.py FOLDER NAME WRITTEN...: is each WRITTEN what went through the tunnels of the capture NAME?

Three witnesses: the SHA-256 of each inner packet in NAME.verify.json, by frame number; the frame's own time; and the
packets that were captured at the tunnel's ends. In the captures whose ends "forwarded" a packet, its hop limit may
differ by one hop. Prints what was compared; exit code 1 with a list of differences."""

import hashlib
import json
import os
import struct
import sys

import capturefile


class Judge:
    def __init__(self, folder, name):
        load = lambda suffix: json.load(open(os.path.join(folder, name + suffix), encoding="utf-8"))
        self.link, self.frames = capturefile.read(os.path.join(folder, name + ".pcap"))
        self.told, self.truth = load(".json"), load(".verify.json")
        self.mode = {entry["spi"]: entry["mode"] for entry in self.told["esp"]}
        self.ends = {}
        for end, path in self.told["inner"].items():
            link, packets = capturefile.read(os.path.join(folder, path))
            self.ends[end] = [capturefile.network(link, packet) for _, packet in packets]
        self.wrong, self.compared = [], {"packets": 0, "headers": 0, "ends": 0}

    def check(self, good, text):
        if not good:
            self.wrong.append(text)

    def judge(self, path):
        link, written = capturefile.read(path)
        self.check(link == capturefile.RAW, "%s: link type %d" % (path, link))
        truth = self.truth["packets"]
        self.check(len(written) == len(truth), "%s: %d packets, not %d" % (path, len(written), len(truth)))
        frames = [packet["frame"] for packet in truth]
        self.check(frames == sorted(frames), "verify.json is not in the order of the capture")
        seen = {end: set() for end in self.ends}
        for (time, packet), told in zip(written, truth):
            place = "%s: frame %d" % (path, told["frame"])
            self.check(time == self.frames[told["frame"] - 1][0], place + ": time")
            self.compared["packets"] += 1
            if self.mode[told["spi"]] == "transport":
                self.transport(packet, told, place)
            else:
                self.check(len(packet) == told["len"], place + ": length")
                self.check(hashlib.sha256(packet).hexdigest() == told["sha256"], place + ": SHA-256")
            for end in self.ends:
                if "inner_frame_" + end in told:
                    number = told["inner_frame_" + end]
                    seen[end].add(number)
                    self.compared["ends"] += 1
                    self.same(packet, self.ends[end][number - 1], place + ": end " + end)
        for end, numbers in seen.items():
            # Frames that never entered the tunnel (ICMP errors of the end itself) are not named.
            self.check(len(numbers) == len(truth), "%s: %d frames of end %s" % (path, len(numbers), end))

    def transport(self, packet, told, place):
        """SHA-256 is that of the payload; the header is the frame's, but for protocol and length"""
        outer = capturefile.network(self.link, self.frames[told["frame"] - 1][1])
        at, offset = capturefile.transport(packet)
        payload = packet[offset:]
        self.check(len(payload) == told["len"], place + ": length")
        self.check(hashlib.sha256(payload).hexdigest() == told["sha256"], place + ": SHA-256")
        self.check(packet[at] == told["next_header"], place + ": protocol")
        kept = bytearray(packet[:offset])
        kept[at] = outer[at]
        if packet[0] >> 4 == 4:
            self.check(struct.unpack("!H", packet[2:4])[0] == len(packet), place + ": total length")
            self.check(capturefile.folded(packet[:offset]) == 0xFFFF, place + ": checksum")
            kept[2:4], kept[10:12] = outer[2:4], outer[10:12]
        else:
            self.check(struct.unpack("!H", packet[4:6])[0] == len(packet) - 40, place + ": length")
            kept[4:6] = outer[4:6]
        self.check(bytes(kept) == outer[:offset], place + ": header")
        self.compared["headers"] += 1

    def same(self, packet, other, place):
        if not self.told.get("forwarded"):
            self.check(packet == other, place)
            return
        hop = 8 if packet[0] >> 4 == 4 else 7
        self.check(abs(packet[hop] - other[hop]) <= 1, place + ": hop limit")
        sides = [bytearray(packet), bytearray(other)]
        for side in sides:
            side[hop] = 0
            if hop == 8:
                side[10:12] = b"\0\0"
        self.check(sides[0] == sides[1], place)


def main():
    judge = Judge(sys.argv[1], sys.argv[2])
    for path in sys.argv[3:]:
        judge.judge(path)
    if judge.wrong:
        print("\n".join(judge.wrong[:20]))
        sys.exit(1)
    print(json.dumps(judge.compared))


if __name__ == "__main__":
    main()
