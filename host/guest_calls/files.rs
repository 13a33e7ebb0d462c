//! `files`: files of the call's own namespace.

use super::OneCall;
use super::fault::{self, fault};
use crate::domain::{Fault, FaultCode, FileName, FolderName, NameError};
use crate::exec::host_calls::{FileAt, FileChange, FileInfo, FilePage, FileQuery};
use crate::files::{Folder, Info};
use crate::tenancy::Verb;
use bytes::Bytes;
use std::time::SystemTime;

/// Files of a page where the guest does not say. As of records.
const PAGE: usize = 100;
/// Most files of a page. With the longest names 2 MiB.
const PAGE_MAX: usize = 1_000;
/// Longest beginning of names: that of the longest name.
const PREFIX_MAX: usize = 8 * 256;

impl OneCall {
    /// The folder, where the deployment may do that there.
    fn folder(&self, name: &str, verb: Verb) -> Result<Folder, Fault> {
        let name: FolderName = name.parse().map_err(|why| bad("folder", &why))?;
        self.grants().folder(&name, verb == Verb::Write).map_err(|why| self.deny(&why, verb))?;
        let permit = self.permit(verb)?;
        Ok(Folder { namespace: permit.namespace().clone(), name })
    }

    pub(super) async fn read_file_now(&self, file: FileAt, offset: u64, length: usize) -> Result<Bytes, Fault> {
        let (folder, name) = (self.folder(&file.folder, Verb::Read)?, file_name(&file.name)?);
        let read = self.parts.files.read(&folder, name, (offset, length), self.deadline).await;
        read.map_err(fault::files)
    }

    pub(super) async fn stat_file_now(&self, file: FileAt) -> Result<FileInfo, Fault> {
        let (folder, name) = (self.folder(&file.folder, Verb::Read)?, file_name(&file.name)?);
        self.parts.files.stat(&folder, name, self.deadline).await.map(info).map_err(fault::files)
    }

    pub(super) async fn list_files_now(&self, query: FileQuery) -> Result<FilePage, Fault> {
        let folder = self.folder(&query.folder, Verb::Read)?;
        let FileQuery { folder: asked, prefix, size, token } = query;
        // It is compared with names and opens nothing.
        if prefix.len() > PREFIX_MAX || prefix.contains(|c: char| c.is_control() || c == '\\') {
            let problem = format!("the prefix has at most {PREFIX_MAX} bytes, no backslashes, no control characters");
            return Err(fault(FaultCode::InvalidArgument, problem));
        }
        let asked = format!("guest files {} {asked} {prefix:?} {size}", self.namespace);
        let after = self.parts.pages.read(&asked, &token);
        let after = after.map_err(|why| fault(FaultCode::InvalidArgument, format!("the token {why}")))?;
        let most = if size == 0 { PAGE } else { size.min(PAGE_MAX) };
        let listed = self.parts.files.list(&folder, prefix, after.unwrap_or_default(), most + 1, self.deadline).await;
        let mut listed = listed.map_err(fault::files)?;
        let more = listed.len() > most;
        listed.truncate(most);
        let last = listed.last().filter(|_| more);
        let next = last.map(|last| self.parts.pages.token(&asked, &last.name)).unwrap_or_default();
        Ok(FilePage { files: listed.into_iter().map(|file| (file.name, info(file.info))).collect(), next })
    }

    pub(super) async fn change_file_now(&self, file: FileAt, change: FileChange) -> Result<(), Fault> {
        let (folder, name) = (self.folder(&file.folder, Verb::Write)?, file_name(&file.name)?);
        let files = &self.parts.files;
        let done = match change {
            FileChange::Write { offset, bytes } => files.write(&folder, name, offset, bytes, self.deadline).await,
            FileChange::Rename { to } => files.rename(&folder, name, file_name(&to)?, self.deadline).await,
            FileChange::Delete => files.delete(&folder, name, self.deadline).await,
        };
        done.map_err(fault::files)
    }
}

fn bad(what: &str, why: &NameError) -> Fault {
    fault(FaultCode::InvalidArgument, format!("the {what}'s name {why}"))
}

fn file_name(name: &str) -> Result<FileName, Fault> {
    name.parse().map_err(|why| bad("file", &why))
}

fn info(info: Info) -> FileInfo {
    let since = info.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    FileInfo { size: info.size, modified_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
}
