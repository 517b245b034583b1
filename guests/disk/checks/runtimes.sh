# shellcheck shell=sh
# Interpreters, a JIT and an allocator that choose code or sizes by the page.

size=$(getconf PAGE_SIZE)
equal "Python's mmap.PAGESIZE" "$size" "$(python3 -c 'import mmap; print(mmap.PAGESIZE)')"
equal "Python maps a file at the second page" "second" "$(python3 -c '
import mmap, tempfile
with tempfile.TemporaryFile() as file:
    file.write(bytes(mmap.PAGESIZE) + b"second")
    file.flush()
    with mmap.mmap(file.fileno(), 6, offset=mmap.PAGESIZE) as mapped:
        print(mapped[:].decode())
')"
equal "Python's threads and json" "[499500, 499500]" "$(python3 -c '
import concurrent.futures, json
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    print(json.dumps(list(pool.map(lambda _: sum(range(1000)), range(2)))))
')"
equal "Perl's sysconf(_SC_PAGESIZE)" "$size" "$(perl -MPOSIX -e 'print sysconf(_SC_PAGESIZE)')"
equal "Perl sorts and matches" "pages 3" "$(perl -e '
my @w = sort grep { /^page/ } qw(pagesize granule pages pagemap); print "pages ", scalar(@w)')"
# grep -P compiles the pattern with PCRE2's JIT: memory that is written and then run.
equal "PCRE2's JIT" "aaab" "$(echo xxaaabyy | grep -Po '(a+)(?=b)b')"
# jemalloc is built for one page size at most, and refuses larger ones when it starts.
library=$(find /usr/lib -name 'libjemalloc.so.2' | head -n 1)
equal "jemalloc under Python" "4000000" \
    "$(LD_PRELOAD=$library python3 -c 'print(len(b"".join(bytes(400) for _ in range(10000))))' 2>&1)"
finish
