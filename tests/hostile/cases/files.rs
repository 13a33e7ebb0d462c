//! H: what running code does to the files that it is granted.

use crate::case::{Case, Cost, Miss, Verdict, check, done, refused};
use crate::messages::FileErrand;
use crate::target::Target;
use std::time::Duration;
use tonic::Code;

/// Bytes that one call moves at most.
const MIB: u32 = 1 << 20;

/// H04, where there is a folder.
pub fn filled() -> Case {
    let title = "a granted folder filled up by bytes and by files; names that lead out; a file deleted under a reader";
    let wants = "RESOURCE_EXHAUSTED and space returns; INVALID_ARGUMENT; NOT_FOUND";
    Case::new("H04b", title, wants, |t| Box::pin(h04b(t))).costs(Cost::Waits)
}

/// H05.
pub fn read_only() -> Case {
    let title = "write, write over, delete, rename and rename over in a folder that is granted to be read";
    Case::new("H05", title, "denied, nothing changed", |t| Box::pin(h05(t))).costs(Cost::Slow)
}

fn file(folder: &str, name: &str) -> FileErrand {
    FileErrand { folder: folder.into(), name: name.into(), ..FileErrand::default() }
}

async fn h04b(t: &Target) -> Verdict {
    let t = &t.part("-e");
    t.errands().await?;
    empty(t).await?;
    let mib = t.many(4, 256);
    t.quota(&[("stored_mib", mib as u64), ("stored_records", 0)]).await?;
    let large = fill(t, "large/", MIB, "stored_mib").await?;
    check(large < mib as u64, || format!("{large} MiB of {mib}"))?;
    // As many again: what was taken away is there.
    empty(t).await?;
    let again = fill(t, "deep/a/b/c/d/e/", MIB, "stored_mib").await?;
    check(again == large, || format!("{again} MiB after {large}"))?;
    empty(t).await?;
    let most = t.many(50, 10_000) as u64;
    t.quota(&[("stored_mib", 0), ("stored_records", most)]).await?;
    let many = fill(t, "many/", 1, "stored_records").await?;
    check(many <= most, || format!("{many} files of {most}"))?;
    let tried = leave(t).await?;
    let read = under_a_reader(t).await?;
    empty(t).await?;
    Ok(format!("{large} MiB, {many} files, {tried} names refused, {read} reads before the file was gone"))
}

/// Writes files until it is told no. Returns how many there are.
async fn fill(t: &Target, begin: &str, length: u32, quota: &str) -> Result<u64, Miss> {
    let order = FileErrand { length, offset: Some(u64::from(u32::MAX)), ..file("shared", begin) };
    let filled = done("fill the folder", t.file("FillFolder", &order).await)?;
    let told = filled.text.starts_with("RESOURCE_EXHAUSTED") && filled.text.contains(quota);
    check(told, || format!("after {} files it was told {}", filled.size, filled.text.escape_debug()))?;
    Ok(filled.size)
}

async fn empty(t: &Target) -> Result<(), Miss> {
    loop {
        let found =
            done("list the folder", t.file("ListFiles", &FileErrand { length: 1_000, ..file("shared", "") }).await)?;
        if found.names.is_empty() {
            return Ok(());
        }
        for name in &found.names {
            done("delete a file", t.file("DeleteFile", &file("shared", name)).await)?;
        }
    }
}

async fn leave(t: &Target) -> Result<usize, Miss> {
    let (long, deep) = ("p".repeat(256), ["a"; 9].join("/"));
    let names = ["", ".", "..", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\\b", "a\0b", "a\nb", &long, &deep];
    let mut tried = 0;
    for name in names {
        for method in ["ReadFile", "WriteFile", "StatFile", "DeleteFile"] {
            let answer = t.file(method, &file("shared", name)).await;
            refused(&format!("{method} of {name:?}"), answer, &[Code::InvalidArgument])?;
            tried += 1;
        }
        let rename = FileErrand { to: name.into(), ..file("shared", "many/0") };
        refused(&format!("a rename to {name:?}"), t.file("RenameFile", &rename).await, &[Code::InvalidArgument])?;
    }
    let foreign = format!("../{}/shared", t.bystander.namespace);
    for folder in ["", "..", "*", "shared/..", ".tmp", &foreign] {
        let answer = t.file("ListFiles", &file(folder, "")).await;
        refused(&format!("the folder {folder:?}"), answer, &[Code::InvalidArgument])?;
        tried += 1;
    }
    Ok(tried)
}

/// Deletes a file that another call reads over and over.
async fn under_a_reader(t: &Target) -> Result<u64, Miss> {
    let again = t.again();
    let insist = async { t.file("InsistFile", &FileErrand { length: 1, ..file("shared", "many/0") }).await };
    let delete = async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        again.file("DeleteFile", &file("shared", "many/0")).await
    };
    let (told, deleted) = tokio::join!(insist, delete);
    done("delete it", deleted)?;
    let told = done("read it", told)?;
    check(told.text.starts_with("NOT_FOUND"), || format!("the reader was told {}", told.text.escape_debug()))?;
    Ok(told.size)
}

async fn h05(t: &Target) -> Verdict {
    let t = &t.part("-b");
    t.errands().await?;
    t.grant(&["files=locked:write"]).await?;
    for name in ["a", "b"] {
        let order = FileErrand { data: name.as_bytes().to_vec(), ..file("locked", name) };
        done("write a file", t.file("WriteFile", &order).await)?;
    }
    t.grant(&["files=locked:read"]).await?;
    let to = |to: &str| FileErrand { to: to.into(), ..file("locked", "a") };
    let into = |offset| FileErrand { offset, data: vec![0], ..file("locked", "a") };
    let attacks = [
        ("a truncation", "WriteFile", file("locked", "a")),
        ("a write over it", "WriteFile", into(None)),
        ("a write into it", "WriteFile", into(Some(0))),
        ("a new file", "WriteFile", file("locked", "c")),
        ("a deletion", "DeleteFile", file("locked", "a")),
        ("a rename", "RenameFile", to("c")),
        ("a rename over another", "RenameFile", to("b")),
        ("a folder that is not granted", "ReadFile", file("other", "a")),
    ];
    let count = attacks.len();
    for (what, method, order) in attacks {
        refused(what, t.file(method, &order).await, &[Code::PermissionDenied])?;
    }
    for name in ["a", "b"] {
        let found = done("read it", t.file("ReadFile", &FileErrand { length: 9, ..file("locked", name) }).await)?;
        check(found.data == name.as_bytes(), || format!("{name} has changed"))?;
    }
    Ok(format!("{count} refused, both files as they were"))
}
