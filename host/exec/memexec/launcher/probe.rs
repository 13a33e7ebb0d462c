//! A program that does nothing, to try a jail with.

/// A whole static ELF executable around some machine code: file header, one segment, code.
/// Source: elf(5). Little-endian, as both architectures are.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! elf {
    (machine $machine:literal, size $size:literal, code $($code:literal)*) => {
        &[
            0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 64 bits, little-endian, version 1
            2, 0, $machine, 0, 1, 0, 0, 0, // executable, machine, version 1
            0x78, 0, 0x40, 0, 0, 0, 0, 0, // entry: 0x400078, right behind the headers
            64, 0, 0, 0, 0, 0, 0, 0, // the segment's header follows this one
            0, 0, 0, 0, 0, 0, 0, 0, // no sections
            0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0, // no flags, sizes of headers, one segment
            1, 0, 0, 0, 5, 0, 0, 0, // load it, to read and execute
            0, 0, 0, 0, 0, 0, 0, 0, // from the file's start
            0, 0, 0x40, 0, 0, 0, 0, 0, // to 0x400000
            0, 0, 0x40, 0, 0, 0, 0, 0, // physically too, which nobody asks
            $size, 0, 0, 0, 0, 0, 0, 0, // the whole file
            $size, 0, 0, 0, 0, 0, 0, 0, // and nothing behind it
            0, 0, 1, 0, 0, 0, 0, 0, // on 64 KiB, the largest page there is
            $($code),*
        ]
    };
}

/// exit_group(0).
#[cfg(target_arch = "x86_64")]
static PROGRAM: &[u8] = elf!(machine 62, size 129, code
    0xb8 0xe7 0x00 0x00 0x00 // mov eax, 231
    0x31 0xff // xor edi, edi
    0x0f 0x05 // syscall
);

/// exit_group(0).
#[cfg(target_arch = "aarch64")]
static PROGRAM: &[u8] = elf!(machine 183, size 132, code
    0xc8 0x0b 0x80 0xd2 // mov x8, #94
    0x00 0x00 0x80 0xd2 // mov x0, #0
    0x01 0x00 0x00 0xd4 // svc #0
);

/// Nothing that could run: trying a jail fails, and says so.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static PROGRAM: &[u8] = &[];

/// A static binary of this machine's architecture that exits with 0 at once.
pub(in crate::exec) fn probe_program() -> &'static [u8] {
    PROGRAM
}
