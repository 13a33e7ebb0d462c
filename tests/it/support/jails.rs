//! A launcher of jails as the node starts it, spoken to over its sockets; and programs of a few machine instructions.

use rustix::cmsg_space;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs::File;
use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of memory that calls get unless a test says otherwise.
const MEMORY: u64 = 64 << 20;

/// One end of a socket to the launcher or to a jail.
pub struct Link(OwnedFd);

impl Link {
    fn pair() -> (Self, OwnedFd) {
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.unwrap();
        (Self(ours), theirs)
    }

    pub fn send(&self, packet: &[u8], files: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(files.is_empty() || beside.push(SendAncillaryMessage::ScmRights(files)));
        rustix::net::sendmsg(&self.0, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next packet; `None` if the other end is closed.
    pub fn receive(&self) -> Option<Value> {
        let mut packet = vec![0; 64 << 10];
        match rustix::net::recv(&self.0, &mut packet, RecvFlags::empty()) {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => None,
            got => Some(serde_json::from_slice(&packet[..got.unwrap().0]).unwrap()),
        }
    }
}

/// A name that no other launcher's control groups have.
fn own_cgroup() -> String {
    static LAUNCHERS: AtomicU32 = AtomicU32::new(0);
    let number = LAUNCHERS.fetch_add(1, Ordering::Relaxed);
    format!("collector-test-{}-{number}", std::process::id())
}

/// A running launcher; killed on drop.
pub struct Launcher {
    child: Child,
    pub link: Link,
    pub cgroup: String,
}

impl Launcher {
    pub fn start() -> Self {
        Self::start_as(&own_cgroup())
    }

    /// With control groups of this name.
    pub fn start_as(cgroup: &str) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_collector")), cgroup)
    }

    /// By a shell, with these words before the program's name.
    pub fn start_after(first: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!(r#"{first} "$0" "$@""#), env!("CARGO_BIN_EXE_collector")]);
        Self::start_by(shell, &own_cgroup())
    }

    fn start_by(mut command: Command, cgroup: &str) -> Self {
        let (link, theirs) = Link::pair();
        let child = command.arg("__jail-launcher").env_clear().stdin(theirs).stdout(Stdio::null()).spawn().unwrap();
        drop(command);
        let settings = json!({ "Settings": { "cgroup": cgroup, "memory_bytes": 1_u64 << 30, "tasks": 1024 } });
        link.send(settings.to_string().as_bytes(), &[]);
        assert!(link.receive().unwrap()["Ready"]["without"].is_array());
        Self { child, link, cgroup: cgroup.to_owned() }
    }

    /// A jail, and the first that it says.
    pub fn spawn(&self, uid: u32) -> (Jail, Value) {
        let (link, theirs) = Link::pair();
        self.link.send(json!({ "Spawn": { "uid": uid } }).to_string().as_bytes(), &[theirs.as_fd()]);
        drop(theirs);
        let hello = link.receive().unwrap();
        (Jail { link, runs: Cell::new(0) }, hello)
    }

    pub fn jail(&self) -> Jail {
        let (jail, hello) = self.spawn(2_000_000_000);
        assert_eq!(hello, json!({ "Ready": { "without": [] } }));
        jail
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // It leaves its control groups, and ends.
        let _ = rustix::net::shutdown(&self.link.0, rustix::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// A jail, as the node has it.
pub struct Jail {
    pub link: Link,
    runs: Cell<u64>,
}

/// A program that runs.
pub struct Run {
    pub id: u64,
    _stdin: File,
    pub stdout: File,
}

impl Run {
    /// All that it wrote, once nobody has its stdout any more.
    pub fn output(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        self.stdout.read_to_end(&mut all).unwrap();
        all
    }
}

impl Jail {
    pub fn start(&self, program: &[u8]) -> Run {
        self.start_with(program, &["program"], MEMORY, 10)
    }

    pub fn start_with(&self, program: &[u8], argv: &[&str], memory_bytes: u64, cpu_seconds: u64) -> Run {
        let program = sealed(program);
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let ((stdin, to), (from, stdout), (_, stderr)) = (pipe(), pipe(), pipe());
        self.runs.set(self.runs.get() + 1);
        let id = self.runs.get();
        let limits = json!({ "memory_bytes": memory_bytes, "cpu_seconds": cpu_seconds });
        let run = json!({ "Run": { "id": id, "argv": argv, "environment": [], "limits": limits } });
        self.link.send(run.to_string().as_bytes(), &[program.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        Run { id, _stdin: to.into(), stdout: from.into() }
    }

    pub fn kill(&self, id: u64) {
        self.link.send(json!({ "Kill": { "id": id } }).to_string().as_bytes(), &[]);
    }

    /// How the run that ends next ends, and which it is.
    pub fn ended(&self) -> (u64, Value) {
        let ended = self.link.receive().expect("the jail stands");
        (ended["id"].as_u64().unwrap(), ended["how"].clone())
    }

    /// Runs a program to its end; how it ended, and the most memory that it had.
    pub fn measure(&self, program: &[u8]) -> (Value, u64) {
        self.start(program);
        let ended = self.link.receive().expect("the jail stands");
        (ended["how"].clone(), ended["peak_memory"].as_u64().unwrap())
    }

    /// Runs a program to its end.
    pub fn run(&self, program: &[u8]) -> Value {
        let run = self.start(program);
        let (id, how) = self.ended();
        assert_eq!(id, run.id);
        how
    }
}

/// As the node keeps programs: in memory, unchangeable, not readable.
fn sealed(program: &[u8]) -> OwnedFd {
    let file = rustix::fs::memfd_create("program", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(file);
    file.write_all(program).unwrap();
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o111)).unwrap();
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

/// An argument that is the address of sixteen zero bytes.
pub const ZEROES: u64 = 0x40_0ff0;

/// A static executable around x86-64 machine code, padded with zeroes to a page.
pub fn elf(code: &[u8]) -> Vec<u8> {
    let mut all = b"\x7fELF\x02\x01\x01".to_vec();
    all.resize(16, 0);
    for half in [2_u16, 62] {
        all.extend(half.to_le_bytes()); // executable, x86-64
    }
    all.extend(1_u32.to_le_bytes());
    for word in [0x40_0078_u64, 64, 0] {
        all.extend(word.to_le_bytes()); // entry, program headers, no sections
    }
    all.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        all.extend(half.to_le_bytes());
    }
    for word in [1_u32, 5] {
        all.extend(word.to_le_bytes()); // load it, read and execute
    }
    for word in [0_u64, 0x40_0000, 0x40_0000, 0x1000, 0x1000, 0x1000] {
        all.extend(word.to_le_bytes());
    }
    all.extend(code);
    assert!(all.len() < 0xff0, "room for the zeroes");
    all.resize(0x1000, 0);
    all
}

/// Machine code: a system call with these arguments.
pub fn call(number: i64, arguments: &[u64]) -> Vec<u8> {
    // mov rdi, rsi, rdx, r10, r8, r9 = 64 bits
    const REGISTERS: [[u8; 2]; 6] =
        [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
    let mut code = Vec::new();
    let given = arguments.iter().copied().chain(std::iter::repeat(0));
    for (register, value) in REGISTERS.into_iter().zip(given) {
        code.extend(register);
        code.extend(value.to_le_bytes());
    }
    code.extend([0x48, 0xb8]); // mov rax
    code.extend(number.to_le_bytes());
    code.extend([0x0f, 0x05]); // syscall
    code
}

/// A program that does one system call and exits with its error number, or with 0.
pub fn tries(number: i64, arguments: &[u64]) -> Vec<u8> {
    let mut code = call(number, arguments);
    code.extend([0x31, 0xff]); // xor edi, edi
    code.extend([0x48, 0x85, 0xc0]); // test rax, rax
    code.extend([0x79, 0x05]); // jns over the next two
    code.extend([0x48, 0xf7, 0xd8]); // neg rax
    code.extend([0x89, 0xc7]); // mov edi, eax
    code.extend([0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05]); // exit_group(edi)
    elf(&code)
}

/// A program that waits for ever, once it has written a byte.
pub fn waits() -> Vec<u8> {
    let mut code = call(libc::SYS_write, &[1, ZEROES, 1]);
    code.extend(call(libc::SYS_poll, &[0, 0, u64::MAX]));
    elf(&code)
}

/// A program that computes for ever.
pub fn spins() -> Vec<u8> {
    elf(&[0xeb, 0xfe]) // jmp to itself
}

/// A program that fills 100 MiB of stack, and before it comes to the end of 8 MiB does a system call each time on the page
/// above the last one. Exits with the first error number, or with 0.
pub fn splits_its_stack(number: i64, arguments: &[u64]) -> Vec<u8> {
    const PAGES: u32 = 7 * 256;
    let mut code = vec![0x48, 0x89, 0xe3]; // mov rbx, rsp
    code.extend([0x48, 0x81, 0xe3, 0, 0xf0, 0xff, 0xff]); // and rbx, -4096
    code.extend([0x41, 0xbc, 15, 0, 0, 0]); // mov r12d, 15
    let again = code.len();
    code.push(0xb9); // mov ecx, PAGES
    code.extend(PAGES.to_le_bytes());
    code.extend([0x48, 0x81, 0xeb, 0, 0x10, 0, 0]); // sub rbx, 4096
    code.extend([0xc6, 0x03, 1]); // mov byte [rbx], 1
    code.extend([0xff, 0xc9, 0x75, 0xf2]); // dec ecx, jnz to the sub
    let mut prepared = call(number, &[&[0], arguments].concat());
    prepared.truncate(prepared.len() - 2); // the system call itself comes later
    code.extend(prepared);
    code.extend([0x48, 0x8d, 0xbb, 0, 0x10, 0, 0]); // lea rdi, [rbx + 4096]
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0x48, 0x85, 0xc0]); // test rax, rax
    code.extend([0x78, 0x09]); // js over the next two
    code.extend([0x41, 0xff, 0xcc]); // dec r12d
    code.extend([0x0f, 0x85]); // jnz again
    code.extend((i32::try_from(again).unwrap() - i32::try_from(code.len()).unwrap() - 4).to_le_bytes());
    code.extend([0x31, 0xff]); // xor edi, edi
    code.extend([0x48, 0x85, 0xc0]); // test rax, rax
    code.extend([0x79, 0x05]); // jns over the next two
    code.extend([0x48, 0xf7, 0xd8]); // neg rax
    code.extend([0x89, 0xc7]); // mov edi, eax
    code.extend([0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05]); // exit_group(edi)
    elf(&code)
}

/// A program that maps memory, and gives back what it got. Exits with the error number, or with 0.
pub fn gives_back(length: u64) -> Vec<u8> {
    let private = u64::from((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).unsigned_abs());
    let mut code = call(libc::SYS_mmap, &[0, length, 3, private, u64::MAX, 0]);
    code.extend([0x48, 0x89, 0xc3]); // mov rbx, rax
    let mut back = call(libc::SYS_munmap, &[0, length]);
    back.truncate(back.len() - 2);
    code.extend(back);
    code.extend([0x48, 0x89, 0xdf, 0x0f, 0x05]); // mov rdi, rbx; syscall
    code.extend([0x48, 0xf7, 0xd8]); // neg rax
    code.extend([0x89, 0xc7]); // mov edi, eax
    code.extend([0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05]); // exit_group(edi)
    elf(&code)
}

/// A program that asks for its id by the door of 32-bit programs.
pub fn asks_by_the_old_door() -> Vec<u8> {
    elf(&[0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xfe]) // mov eax, 20; int 0x80; jmp to itself
}
