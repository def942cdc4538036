"""Reads a growing file in one way until it is so many bytes long, and compares every byte: reader.py HOW PATH BYTES."""
import mmap, os, sys, time

how, path, end = sys.argv[1], sys.argv[2], int(sys.argv[3])
wanted = b"".join(b"%08d %054x\n" % (i, i * 0x9E3779B9) for i in range(end // 64))
file = os.open(path, os.O_RDONLY)
looks, seen, grown = 0, 0, 0


def check(data, at, what):
    if data != wanted[at : at + len(data)]:
        bad = next(i for i in range(len(data)) if data[i] != wanted[at + i])
        zeros = data.count(b"\0")
        sys.exit(f"{what}: byte {at + bad} of {at + len(data)} differs, {zeros} zero bytes, look {looks}")


while seen < end:
    looks += 1
    size = os.fstat(file).st_size
    if size < seen or size % 64:
        sys.exit(f"size {size} after {seen}")
    at = max(0, size - 3 * 4096 - looks % 97)
    if how == "pread":
        data = os.pread(file, 1 << 17, at)
        if at + len(data) < size:
            sys.exit(f"{len(data)} bytes at {at} of {size}")
        check(data, at, how)
    elif how == "stat":
        size = os.stat(path).st_size
        with open(path, "rb") as again:
            again.seek(at)
            data = again.read()
        if at + len(data) < size:
            sys.exit(f"{len(data)} bytes at {at} of {size}")
        check(data, at, how)
    elif how == "mmap":
        with mmap.mmap(file, size, prot=mmap.PROT_READ) as view:
            check(view[at:size], at, how)
    else:
        ours, theirs = os.pipe()
        while at < size:
            count = os.sendfile(theirs, file, at, min(size - at, 1 << 15))
            if count == 0:
                sys.exit(f"end of file at {at} of {size}")
            check(os.read(ours, 1 << 16), at, how)
            at += count
        os.close(ours)
        os.close(theirs)
    grown += size > seen
    seen = size
    time.sleep(0.002)
print(f"{looks} looks, {grown} sizes")
