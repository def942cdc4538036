"""Copies a folder as programs do that trust sizes: looks at all, then reads as many bytes of each: copier.py HOW FROM TO.

What is refused is noted as NAME.refused, then looked at again and copied as NAME.again.
"""
import errno, os, sys, threading

how, source, target = sys.argv[1:4]
names = sorted(os.listdir(source))
sizes = {name: os.stat(f"{source}/{name}").st_size for name in names}


def copy(name, size, copied):
    if how == "access":
        os.access(f"{source}/{name}", os.R_OK)
    file = os.open(f"{source}/{name}", os.O_RDONLY)
    with open(f"{target}/{copied}", "wb") as out:
        while size > 0 and (data := os.read(file, size)):
            out.write(data)
            size -= len(data)
    os.close(file)


def copy_all(own):
    for name in names:
        try:
            copy(name, sizes[name], f"{name}.{own}")
            continue
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        open(f"{target}/{name}.{own}.refused", "w").close()
        if how != "threads":
            copy(name, os.stat(f"{source}/{name}").st_size, f"{name}.{own}.again")


threads = [threading.Thread(target=copy_all, args=(n,)) for n in range(2 if how == "threads" else 1)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(1 for size in sizes.values() if size == 1))
