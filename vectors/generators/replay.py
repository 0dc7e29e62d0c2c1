"""Writes replay.json, replay-esn.json and replay-esn-wide.json.  The oracle is a plain set of the numbers accepted
so far and the highest of them (RFC 4303, 3.4.3 and A2); it knows no bitmap.  The high half of a number comes from A2.2
as written there, and is compared with a second statement of the same rule."""

import random

import espmodel as m

SOURCE = "vectors/generators/replay.py"
WINDOWS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
SUB = 2**32


class Receiver:
    def __init__(self, window, esn, highest=0):
        self.window, self.esn, self.highest, self.steps = window, esn, highest, []
        self.start, self.accepted = highest, {highest} if highest else set()

    def infer(self, low):
        """RFC 4303, A2.2; None where the number would lie before the first subspace"""
        top_high, top_low = divmod(self.highest, SUB)
        edge = (top_low - self.window + 1) % SUB
        if top_low >= self.window - 1:
            high = top_high if low >= edge else top_high + 1
        else:
            high = top_high - 1 if low >= edge else top_high
        lowest = self.highest - self.window + 1  # the one number in lowest ..< lowest + 2^32 with this low half
        assert high * SUB + low == lowest + (low - lowest) % SUB and high < SUB
        return high * SUB + low if high >= 0 else None

    def verdict(self, full):
        if full is None:
            return "tooOld"
        if not self.window:
            return "accept"
        if full == 0:
            return "sequenceZero"
        if full <= self.highest - self.window:
            return "tooOld"
        return "replayed" if full in self.accepted else "accept"

    def step(self, number, authentic=True):
        """one packet with this number's low half; True when it was taken in"""
        low = number % SUB
        full = self.infer(low) if self.esn else low
        verdict = self.verdict(full)
        self.steps.append({"seq": low, "full": full, "verdict": verdict, **({} if authentic else {"authentic": False})})
        if verdict != "accept" or not authentic:
            return False
        self.accepted.add(full)
        self.highest = max(self.highest, full)
        return True

    def all(self, numbers, authentic=True):
        for number in numbers:
            self.step(number, authentic)
        return self

    def case(self, name):
        after = self.highest if self.window else None
        head = {"name": name, "window": self.window, "esn": self.esn, "highest": self.start}
        return {**head, "steps": self.steps, "highest_after": after}


def probes(top, window, count):
    """numbers in and just outside the window: both edges, word boundaries, and evenly between"""
    near = {0, 1, 2, 31, 32, 33, 62, 63, 64, 65, 127, 128, 129, window - 65, window - 64, window - 63}
    near |= {window - 33, window - 32, window - 31, window - 2, window - 1, window, window + 1, window + 64}
    near |= set(range(0, window, max(1, window // count)))
    return [top - back for back in sorted(near) if back >= 0 and top - back > 0]


def shifts(window):
    return sorted({1, 2, 31, 32, 33, 63, 64, 65, 127, 128, window - 1, window, window + 1, 2 * window + 5})


def edges(window, esn, top):
    r = Receiver(window, esn, top)
    left = top - window + 1
    r.all([top, top - 1, top - 1, left, left, left + 1])
    if not esn:
        r.all([left - 1, 1, 0])
    r.step(left - 1 if left > 0 else left, authentic=False)
    r.all([top + 1, left + 1, left + 2, top, top + 1])
    return r


def shift(window, esn, top, by):
    r = Receiver(window, esn, top)
    r.all(n for n in probes(top, window, 16)[::3] if n > top - window)
    r.step(top + by)
    new = r.highest
    r.all(n for n in probes(new, window, 16)[1::2] if not esn or n > new - window)
    return r.all(n for n in (top, top - 1, new, new - 1) if not esn or n > new - window)


def forged(window, esn, top):
    """packets whose ICV is wrong neither mark a number nor move the window"""
    r = Receiver(window, esn, top)
    ahead = [top + n for n in (1, 2, window // 2, window, window + 1, 10 * window, 2**30)]
    r.all(ahead, authentic=False)
    r.all([top - 1, top - 2, top - window + 1], authentic=False)
    r.all([top - 1, top, top - window + 1, top + 2, top + 1, top + 1])
    r.step(top + 2**31 - 2 * window, authentic=False)
    return r.all([top - window + 3, top + 3, top + 3])


def walk(name, window, esn, start, forward, back, steps=160, lost=0.1, copies=0.15, fake=0.1):
    """a seeded run of a sender with loss, reordering, copies and forgeries; `start` is the sender's first number"""
    rng = random.Random(name)
    r, true = Receiver(window, esn, start - 1 if esn and start > 1 else 0), start
    for _ in range(steps):
        draw = rng.random()
        if draw < copies and r.accepted:
            choice = max(1, r.highest - rng.randrange(back))
        elif draw < copies + 0.35:
            choice = max(1, true - rng.randrange(back))
        else:
            true += 1 + (rng.randrange(forward) if rng.random() < lost else 0)
            choice = true
        if not esn and choice >= SUB:
            break
        authentic = rng.random() >= fake
        if esn and authentic and r.infer(choice % SUB) != choice:
            authentic = False  # a number so far behind that the receiver must take it for a later one
        r.step(choice, authentic)
    return r


def plain():
    cases = []
    for w in WINDOWS:
        first = Receiver(w, False).all([0, 1, 1, 2, 2, 5, 3, w, w - 1, 1, w + 1, 1, 2, w + 2, 2, 4, 3, w + 2, 0])
        cases.append(first.case(f"w{w}/first-packets"))
        cases.append(Receiver(w, False).all([2**31, 1, 2**31, 2**31 - w + 1, 2**31 - w]).case(f"w{w}/first-is-far"))
        cases.append(Receiver(w, False).all([w, w - 1, 1, 1, 0]).case(f"w{w}/first-fills-window"))
        cases.append(Receiver(w, False).all([w + 1, w, 1, 2, 2, 0]).case(f"w{w}/first-passes-window"))
        for top in (10 * w, 2**31, SUB - 2):
            cases.append(edges(w, False, top).case(f"w{w}/edges-at-{top}"))
        for by in shifts(w):
            cases.append(shift(w, False, 20 * w + 7, by).case(f"w{w}/shift-{by}"))
        jumps = Receiver(w, False, 100 * w)
        jumps.all([100 * w + 2**31, 100 * w, 2**31, SUB - 1, SUB - 1, SUB - 2, SUB - w, SUB - w - 1, 0, 1, SUB - 1])
        cases.append(jumps.case(f"w{w}/jumps"))
        cases.append(Receiver(w, False).all([SUB - 1, SUB - 1, 1, 0, SUB - w, SUB - w - 1]).case(f"w{w}/first-is-last"))
        cases.append(forged(w, False, 50 * w).case(f"w{w}/forged"))
        for kind, forward, back in (("mild", 4, 8), ("wide", w, w + 8), ("wild", 3 * w, 2 * w)):
            name = f"w{w}/random-{kind}"
            cases.append(walk(name, w, False, 1, forward, back).case(name))
        name = f"w{w}/random-to-the-end"
        cases.append(walk(name, w, False, SUB - 150, 2, w + 4, steps=256).case(name))
    for w in (32, 64, 128):
        down = list(range(500, 500 - w, -1))
        cases.append(Receiver(w, False).all([*down, 500 - w, *down, 501, 502 - w, 501 - w]).case(f"w{w}/descending"))
        up = range(1, 2 * w + 1)
        cases.append(Receiver(w, False).all(n for k in up for n in (k, k)).case(f"w{w}/every-one-twice"))
    off = [5, 5, 1, 2**31, 3, SUB - 1, SUB - 1, 1, 7]
    cases.append(Receiver(0, False).all(off).case("off/anything-goes"))
    cases.append(walk("off/random", 0, False, 1, 50, 300).case("off/random"))
    m.write("replay.json", "spindle-replay-1", SOURCE, cases)


def extended(path, windows):
    cases = []
    for w in windows:
        first = Receiver(w, True).all([0, SUB - 1, SUB - w + 1, 1, 1, 2, 0, SUB - w + 2, SUB - 1, w - 2, w - 1, 2, 3, w])
        cases.append(first.case(f"w{w}/first-packets"))
        old = Receiver(w, True, w - 2).all([SUB - 1, 1, 0], authentic=False)
        old.all([w - 1]).all([SUB - 1, 0], authentic=False)
        cases.append(old.case(f"w{w}/below-first-subspace"))
        for high in (0, 1, 2, 5, 2**16, 2**31, SUB - 2):
            for low in (0, 1, w - 2, w - 1, w, 2**31, SUB - 2, SUB - 1):
                if high == 0 and low < w:
                    continue
                top = high * SUB + low
                cases.append(edges(w, True, top).case(f"w{w}/edges-at-{top:x}"))
        for by in shifts(w):
            cases.append(shift(w, True, 2 * SUB - 1 - by // 2, by).case(f"w{w}/shift-{by}-over-wrap"))
        order = [-3, 1, -1, 0, 3, -2, 2, 0, -w // 2, w // 2, -w // 2, 1, w - 2, -1, w + 5, 5, 4, w + 4, 6, 7]
        for high in (1, 2, 0x80000000):
            r = Receiver(w, True, high * SUB - 5).all(high * SUB + n for n in order)
            cases.append(r.case(f"w{w}/reordered-over-wrap-{high}"))
        for by in (2**31 - 1, 2**31, 2**31 + 1, SUB - w - 1, SUB - w):
            r, top = Receiver(w, True, 3 * SUB + 12345), 3 * SUB + 12345
            for _ in range(5):  # five times, through several subspaces
                r.step(top + by, authentic=False)
                assert r.step(top + by) and r.highest == top + by
                top += by
                r.all([top - 1, top, top - w + 1, top - 1])
            cases.append(r.case(f"w{w}/jump-{by:x}"))
        late = Receiver(w, True, 3 * SUB + 12345)
        late.all([3 * SUB + 12345 + SUB - w + 1, 3 * SUB + 12345 + SUB, 3 * SUB + 12345 - w], authentic=False)
        cases.append(late.case(f"w{w}/jump-too-far"))
        for top in (SUB + 3, SUB - 2, 9 * SUB + w - 1, 9 * SUB + w - 2, 50 * w):
            cases.append(forged(w, True, top).case(f"w{w}/forged-at-{top:x}"))
        for kind, start, forward, back in (
            ("start", 1, 4, w),
            ("wrap-mild", SUB - 60, 3, 8),
            ("wrap-wide", 4 * SUB - 40 * w, w, w + 8),
            ("subspaces", SUB, 2**31, w),
        ):
            name = f"w{w}/random-{kind}"
            cases.append(walk(name, w, True, start, forward, back).case(name))
    m.write(path, "spindle-replay-1", SOURCE, cases)


if __name__ == "__main__":
    plain()
    extended("replay-esn.json", WINDOWS[:4])
    extended("replay-esn-wide.json", WINDOWS[4:])
