//! Filters of system calls written by hand, where [`seccompiler`] cannot say what is meant or says it at length.

/// Offset of an argument's lower half in `struct seccomp_data`; the upper one is 4 bytes on. Source: seccomp(2); both
/// architectures are little-endian.
pub(super) const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

pub(super) const fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

pub(super) const fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

pub(super) const fn answer(value: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, value)
}

/// A BPF program, written from its end: BPF jumps forwards only, and counts the instructions in between. A place is how
/// many instructions there are up to its own, from the end.
#[derive(Default)]
pub(super) struct Backwards(Vec<libc::sock_filter>);

impl Backwards {
    pub(super) fn put(&mut self, instruction: libc::sock_filter) -> usize {
        self.0.push(instruction);
        self.here()
    }

    /// The place of what was put last.
    pub(super) fn here(&self) -> usize {
        self.0.len()
    }

    /// Goes on at `yes` if what was loaded last is `value`, else at `no`.
    pub(super) fn jump_if(&mut self, value: u32, yes: usize, no: usize) -> usize {
        self.jump(libc::BPF_JEQ | libc::BPF_K, value, yes, no)
    }

    /// The same for any comparison.
    pub(super) fn jump(&mut self, comparison: u32, value: u32, yes: usize, no: usize) -> usize {
        // Within 255: no program here is as long, which tests see by running them.
        let over = |place: usize| u8::try_from(self.0.len() - place).unwrap_or(u8::MAX);
        let (jt, jf) = (over(yes), over(no));
        self.put(libc::sock_filter { jt, jf, ..statement(libc::BPF_JMP | comparison, value) })
    }

    pub(super) fn finish(mut self) -> Vec<libc::sock_filter> {
        self.0.reverse();
        self.0
    }
}

/// What the kernel would do with a filter: the instructions that there are.
#[cfg(test)]
pub(super) fn answer_of(code: &[libc::sock_filter], call: std::ffi::c_long, arguments: [u64; 6]) -> u32 {
    let mut data = u32::try_from(call).unwrap().to_le_bytes().to_vec();
    let this = if cfg!(target_arch = "x86_64") { 0xc000_003e_u32 } else { 0xc000_00b7 };
    data.extend(this.to_le_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut at, mut a, mut x, mut memory) = (0, 0_u32, 0_u32, [0; 16]);
    loop {
        let one = code[at];
        let k = usize::try_from(one.k).unwrap();
        at += 1;
        let mut go = |yes: bool| at += usize::from(if yes { one.jt } else { one.jf });
        match u32::from(one.code) {
            0x20 => a = u32::from_le_bytes(data[k..k + 4].try_into().unwrap()),
            0x60 => a = memory[k],
            0x02 => memory[k] = a,
            0x04 => a = a.wrapping_add(one.k),
            0x0c => a = a.wrapping_add(x),
            0x54 => a &= one.k,
            0x07 => x = a,
            0x87 => a = x,
            0x05 => at += k,
            0x15 => go(a == one.k),
            0x25 => go(a > one.k),
            0x35 => go(a >= one.k),
            0x3d => go(a >= x),
            0x45 => go(a & one.k != 0),
            0x06 => return one.k,
            other => panic!("instruction {other:x}"),
        }
    }
}
