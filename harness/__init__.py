"""granule: boots real arm64 kernels at 4K, 16K and 64K pages and says what it found.

Layers, from the bottom (held by tests/unit/test_layers.py):

    errors deadline spec verdict paths   values, and the few services
    cache reading saving guarded         that everyone uses
    vmsa        the page-table model: an executable specification of stage 1 translation
    linux       parsers of what Linux stores and prints
    bulk        whole tables at once, equal to the model
    check       the cross-check: the model against what a guest holds
    kernels     where kernels come from
    weed        what to turn off so that a tree builds
    build       initramfs, guest programs, disk images
    channel     console, shell, SSH, QMP, gdbstub: one class each
    memory      a guest's physical memory, read from outside
    hyperv      the host's side of VMBus, and what makes a guest look for it
    qemu        probing QEMU, its command line, its process; the Machine
    guest       what runs inside: the micro guest
    login       SSH into a guest: server, port, keys
    guests      distribution guests: base images on disks
    smoke       the checks
    kselftest   Linux's own tests as checks
    matrix      cells: expand, refuse, run
    kexec       one kernel starts the next; crash dumps
    trial       a Hyper-V driver before and after a patch
    series      a patch series at each page size
    report      terminal, HTML, JSON, JUnit
    bench       what a page size or a patch costs: counting, comparing, history
    cli, pytest_plugin, entry
"""

__version__ = "0.1.0"
