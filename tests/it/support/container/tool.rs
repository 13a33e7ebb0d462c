//! A static native command that does what its method says: good things, and what hostile ones try.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio, exit};

unsafe extern "C" {
    fn signal(signal: i32, handler: usize) -> usize;
    fn kill(pid: i32, signal: i32) -> i32;
    fn setsid() -> i32;
    fn syscall(number: i64, ...) -> i64;
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let mut input = Vec::new();
    let method = arguments.get(3).map(String::as_str).unwrap_or_default();
    if method != "Deaf" {
        std::io::stdin().read_to_end(&mut input).unwrap();
    }
    let text = String::from_utf8_lossy(&input).into_owned();
    match method {
        "Echo" => say(&input),
        "Deaf" => say(b"not read"),
        "Setting" => setting(&arguments),
        "Fault" => {
            let (code, words) = text.split_once(' ').unwrap();
            eprintln!("{words}");
            exit(code.parse().unwrap());
        }
        "Spin" => {
            unsafe { signal(15, 1) };
            loop {
                std::hint::spin_loop();
            }
        }
        // Says half of it, and the other half much later.
        "Halves" => {
            say(b"first half|");
            std::io::stdout().flush().unwrap();
            std::thread::sleep(std::time::Duration::from_secs(3));
            say(b"second half");
        }
        // Is killed, by itself.
        "KillSelf" => {
            unsafe { kill(std::process::id() as i32, 9) };
        }
        "Sleep" => std::thread::sleep(std::time::Duration::from_secs(3_600)),
        "Allocate" => allocate(),
        "Flood" => {
            for line in 0..text.trim().parse::<u64>().unwrap() {
                eprintln!("{line:0100}");
            }
            say(b"flooded");
        }
        "Output" => {
            let piece = [b'x'; 1 << 16];
            for _ in 0..text.trim().parse::<usize>().unwrap() >> 16 {
                say(&piece);
            }
        }
        "Bomb" => bomb(),
        "Leave" => leave(),
        "Look" => look(),
        "Attack" => attack(),
        "Calls" => calls(),
        "KillAll" => {
            unsafe { kill(-1, 9) };
            std::thread::sleep(std::time::Duration::from_secs(3_600));
        }
        other => {
            eprintln!("no method {other}");
            exit(64 + 12);
        }
    }
}

fn say(bytes: &[u8]) {
    std::io::stdout().write_all(bytes).unwrap();
}

fn setting(arguments: &[String]) {
    println!("{}", arguments[1..].join(" "));
    for (name, value) in std::env::vars() {
        println!("{name}={value}");
    }
}

fn allocate() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 16 << 20]);
    }
}

/// Processes until no more are given; says how many.
fn bomb() {
    let mut children = Vec::new();
    while children.len() < 10_000 {
        match Command::new("/plugin").args(["", "", "Sleep"]).stdin(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(_) => break,
        }
    }
    println!("{}", children.len());
}

/// A process of its own session that goes on, holding stdout, and files in every place that takes them.
fn leave() {
    let mut child = Command::new("/plugin");
    child.args(["", "", "Sleep"]).stdin(Stdio::null());
    use std::os::unix::process::CommandExt;
    unsafe {
        child.pre_exec(|| {
            setsid();
            Ok(())
        });
    }
    child.spawn().unwrap();
    fs::create_dir_all("/tmp/deep/er").unwrap();
    fs::write("/tmp/deep/er/secret", "of the last call").unwrap();
    fs::write("/tmp/.hidden", "x").unwrap();
    for place in ["/dev/mqueue/left", "/dev/shm/left", "/left", "/proc/left", "/dev/left"] {
        if fs::write(place, "x").is_ok() {
            println!("wrote {place}");
        }
    }
}

/// What is to be seen from in here.
fn look() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines() {
        if ["Uid", "Gid", "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp:"].iter().any(|key| line.starts_with(key)) {
            println!("{}", line.replace('\t', " "));
        }
    }
    let mut processes: Vec<String> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok()?.parse::<u32>().ok())
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    processes.sort();
    println!("processes {}", processes.join(" "));
    let network = fs::read_to_string("/proc/net/dev").unwrap();
    let interfaces: Vec<&str> = network.lines().skip(2).map(|line| line.split(':').next().unwrap().trim()).collect();
    println!("interfaces {}", interfaces.join(" "));
    let mut files: Vec<String> =
        fs::read_dir("/tmp").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    println!("tmp {}", files.join(" "));
    println!("descriptors {}", fs::read_dir("/proc/self/fd").unwrap().count() - 1);
    println!("hostname {}", fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    for place in ["/left", "/etc/left", "/plugin"] {
        if fs::OpenOptions::new().create(true).append(true).open(place).is_ok() {
            println!("writable {place}");
        }
    }
    fs::copy("/plugin", "/tmp/again").unwrap();
    println!("tmp runs programs {}", Command::new("/tmp/again").status().is_ok());
    fs::remove_file("/tmp/again").unwrap();
    let mut disk = fs::File::create("/tmp/disk").unwrap();
    let mut mib = 0;
    while mib < 1_000 && disk.write_all(&vec![0; 1 << 20]).is_ok() {
        mib += 1;
    }
    println!("tmp holds {mib} MiB");
}

/// Opens what belongs to the other processes in here, for writing.
fn attack() {
    let own = std::process::id();
    for pid in 1..64_u32 {
        if pid == own {
            continue;
        }
        for file in ["fd/0", "fd/1", "mem"] {
            let path = format!("/proc/{pid}/{file}");
            if let Ok(mut opened) = fs::OpenOptions::new().write(true).open(&path) {
                println!("opened {path}");
                let _ = opened.write_all(b"CRN\x01\x05\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0garbage");
            }
        }
    }
}

/// System calls that must not work, by x86-64 number.
fn calls() {
    let never: [(&str, i64, [i64; 3]); 12] = [
        ("unshare", 272, [0x1000_0000, 0, 0]),
        ("mount", 165, [0, 0, 0]),
        ("ptrace", 101, [0, 0, 0]),
        ("memfd_create", 319, [c"x".as_ptr() as i64, 0, 0]),
        ("socket netlink", 41, [16, 3, 0]),
        ("socket vsock", 41, [40, 1, 0]),
        ("socket packet", 41, [17, 3, 0]),
        ("keyctl", 250, [0, -3, 0]),
        ("bpf", 321, [0, 0, 0]),
        ("io_uring_setup", 425, [1, 0, 0]),
        ("perf_event_open", 298, [0, 0, 0]),
        ("shmget", 29, [0, 4_096, 0o1600]),
    ];
    for (name, number, [a, b, c]) in never {
        let answer = unsafe { syscall(number, a, b, c) };
        let why = std::io::Error::last_os_error().raw_os_error();
        if answer >= 0 || why != Some(1) {
            println!("{name}: {answer} {why:?}");
        }
    }
}
