//! Does one host call each, as it is asked, and tells what came of it: for the tests of grants.

use collector_guest::collections::Collection;
use collector_guest::files::{Folder, Info};
use collector_guest::{Code, Context, Fault, Secret, Sender, config, dispatch, http};
use proto::{Errand, Errands, ErrandsService, FetchErrand, Fetched, FileErrand, FileFound, Found, Header, Note};

/// What `proto/errands.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("errands.v1");
}

/// The handler.
pub struct Runner;

fn notes(errand: &Errand) -> Collection<Note> {
    Collection::named(errand.name.as_str())
}

fn said(text: impl Into<String>) -> Result<Found, Fault> {
    Ok(Found { text: text.into(), ..Found::default() })
}

fn ids(records: Vec<(String, Note)>) -> Vec<String> {
    records.into_iter().map(|(id, _)| id).collect()
}

fn folder(errand: &FileErrand) -> Folder {
    Folder::named(errand.folder.as_str())
}

fn length(errand: &FileErrand) -> usize {
    usize::try_from(errand.length).unwrap_or(usize::MAX)
}

fn all_done() -> Result<FileFound, Fault> {
    Ok(FileFound { text: "done".to_owned(), ..FileFound::default() })
}

fn file_names(files: Vec<(String, Info)>) -> Vec<String> {
    files.into_iter().map(|(name, _)| name).collect()
}

impl Errands for Runner {
    fn config(_: &Context, errand: Errand) -> Result<Found, Fault> {
        let text = config::get(&errand.name).ok_or_else(|| Fault::not_found("no such key"))?;
        Ok(Found { text, names: config::keys(), ..Found::default() })
    }

    fn open_secret(_: &Context, errand: Errand) -> Result<Found, Fault> {
        let secret = Secret::open(&errand.name)?;
        said(format!("{secret:?}"))
    }

    fn put(_: &Context, errand: Errand) -> Result<Found, Fault> {
        let note = Note { text: errand.text.clone() };
        match notes(&errand).create(Some(&errand.id), &note) {
            Err(fault) if fault.code() == Code::AlreadyExists => {
                let (_, revision) = notes(&errand).get(&errand.id)?;
                said(notes(&errand).update(&errand.id, &note, Some(revision))?.to_string())
            }
            made => said(made?.0),
        }
    }

    fn get(_: &Context, errand: Errand) -> Result<Found, Fault> {
        said(notes(&errand).get(&errand.id)?.0.text)
    }

    fn remove(_: &Context, errand: Errand) -> Result<Found, Fault> {
        notes(&errand).delete(&errand.id)?;
        said("gone")
    }

    fn list(_: &Context, errand: Errand) -> Result<Found, Fault> {
        let size = u32::try_from(errand.amount).unwrap_or(u32::MAX);
        let (mut names, mut token, mut pages) = (Vec::new(), String::new(), 0_u32);
        loop {
            let page = notes(&errand).list_after(&token, size)?;
            pages += 1;
            names.extend(ids(page.records));
            if page.next.is_empty() {
                return Ok(Found { text: pages.to_string(), names, ..Found::default() });
            }
            token = page.next;
        }
    }

    fn list_from(_: &Context, errand: Errand) -> Result<Found, Fault> {
        let page = notes(&errand).list_after(&errand.text, 1)?;
        Ok(Found { text: page.next, names: ids(page.records), ..Found::default() })
    }

    fn search(_: &Context, errand: Errand) -> Result<Found, Fault> {
        let names = ids(notes(&errand).search(&errand.text, 10)?);
        Ok(Found { names, ..Found::default() })
    }

    fn call(_: &Context, errand: Errand) -> Result<Found, Fault> {
        let data = dispatch::call_bytes(&errand.name, &errand.text, &errand.data)?;
        Ok(Found { data, ..Found::default() })
    }

    fn nest(context: &Context, errand: Errand) -> Result<Found, Fault> {
        match errand.amount {
            0 => said("the bottom"),
            amount => {
                let deeper = Errand { amount: amount - 1, ..errand };
                dispatch::call(context.service(), context.method(), &deeper)
            }
        }
    }

    fn insist(_: &Context, errand: Errand) -> Result<Found, Fault> {
        loop {
            match notes(&errand).list() {
                Ok(_) => {}
                Err(fault) => return said(fault.to_string()),
            }
        }
    }

    fn watch(_: &Context, errand: Errand, found: &mut Sender<Found>) -> Result<(), Fault> {
        loop {
            let total = notes(&errand).list()?.total;
            found.send(Found { text: total.to_string(), ..Found::default() })?;
        }
    }

    fn read_file(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        let data = folder(&errand).read_at(&errand.name, errand.offset(), errand.length)?;
        Ok(FileFound { data, ..FileFound::default() })
    }

    fn write_file(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        let mut data = errand.data.clone();
        data.resize(data.len().max(length(&errand)), 0);
        match errand.offset {
            Some(offset) => folder(&errand).write_at(&errand.name, offset, &data)?,
            None => folder(&errand).write(&errand.name, &data)?,
        }
        all_done()
    }

    fn stat_file(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        let Info { size, modified_ms } = folder(&errand).info(&errand.name)?;
        Ok(FileFound { size, modified_ms, ..FileFound::default() })
    }

    fn list_files(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        let mut found = FileFound::default();
        let mut token = String::new();
        loop {
            let page = folder(&errand).list_after(&errand.name, &token, errand.length)?;
            found.size += 1;
            found.names.extend(file_names(page.files));
            if page.next.is_empty() {
                return Ok(found);
            }
            token = page.next;
        }
    }

    fn list_files_from(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        let page = folder(&errand).list_after(&errand.name, &errand.to, errand.length)?;
        Ok(FileFound { names: file_names(page.files), to: page.next, ..FileFound::default() })
    }

    fn delete_file(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        folder(&errand).delete(&errand.name)?;
        all_done()
    }

    fn rename_file(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        folder(&errand).rename(&errand.name, &errand.to)?;
        all_done()
    }

    fn fill_folder(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        let data = vec![1; length(&errand)];
        for size in 0..errand.offset() {
            if let Err(fault) = folder(&errand).write(&format!("{}{size}", errand.name), &data) {
                return Ok(FileFound { size, text: fault.to_string(), ..FileFound::default() });
            }
        }
        Ok(FileFound { size: errand.offset(), ..FileFound::default() })
    }

    fn insist_file(_: &Context, errand: FileErrand) -> Result<FileFound, Fault> {
        let mut size = 0;
        loop {
            match folder(&errand).read_at(&errand.name, 0, errand.length) {
                Err(fault) => return Ok(FileFound { size, text: fault.to_string(), ..FileFound::default() }),
                Ok(data) => {
                    let first = data.first().copied().unwrap_or_default();
                    if data.len() != length(&errand) || data.iter().any(|byte| *byte != first) {
                        return Err(Fault::new(Code::DataLoss, "a file that was never written"));
                    }
                    size += 1;
                }
            }
        }
    }

    fn fetch(_: &Context, errand: FetchErrand) -> Result<Fetched, Fault> {
        let named = errand.headers.iter().filter(|header| !header.secret.is_empty());
        let opened = named.map(|header| Secret::open(&header.secret)).collect::<Result<Vec<_>, _>>()?;
        let mut secrets = opened.iter();
        let mut request = http::Request::new(errand.method, errand.url, errand.body);
        for Header { name, value, secret } in &errand.headers {
            let handle = if secret.is_empty() { None } else { secrets.next() };
            request = match handle {
                Some(handle) => request.secret_header(name.as_str(), value.as_str(), handle),
                None => request.header(name.as_str(), value.as_str()),
            };
        }
        let answer = request.send()?;
        let header = |(name, value): (String, Vec<u8>)| {
            let value = String::from_utf8_lossy(&value).into_owned();
            Header { name, value, secret: String::new() }
        };
        let headers = answer.headers.into_iter().map(header).collect();
        Ok(Fetched { status: answer.status.into(), headers, body: answer.body })
    }

    #[allow(clippy::panic, reason = "to see what is said of it")]
    fn die_with_secret(_: &Context, errand: Errand) -> Result<Found, Fault> {
        let secret = Secret::open(&errand.name)?;
        panic!("holding {secret:?}")
    }
}

collector_guest::export!(ErrandsService<Runner>);
