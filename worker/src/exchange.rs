//! The directory in which workers put files for one another. A file there is whole or is not there, its
//! name is safe, and none is larger than configured. What a reply names is a copy of what its agent has put there. The
//! supervisor removes what is old.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use protocol::content::{self, Fetched};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::clock;

/// How much of a file is copied at once, in bytes.
const PIECE: usize = 256 * 1024;
/// What remains of a name that somebody else chose, in bytes.
const NAME_MAX: usize = 80;

/// The directory.
#[derive(Clone, Debug)]
pub struct Exchange {
    dir: PathBuf,
    max_bytes: u64,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is larger than configured.
    #[error("it is larger than {max_mib} MiB, which `files.max_mib` sets")]
    TooLarge {
        /// The limit.
        max_mib: u64,
    },
    /// It is no file that may be sent.
    #[error("{0}")]
    NoFile(io::Error),
    /// The disk does not take it.
    #[error("write it into the exchange directory: {0}")]
    Io(#[from] io::Error),
}

/// A file in the making. Dropped, it is gone.
#[derive(Debug)]
pub struct Making {
    file: File,
    part: Part,
    name: String,
    size: u64,
    max_bytes: u64,
}

/// Removes an unfinished file.
#[derive(Debug)]
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Nothing is there once the file has its name; what cannot be removed is cleaned away later.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl From<protocol::worker::Exchange> for Exchange {
    fn from(exchange: protocol::worker::Exchange) -> Self {
        Self { dir: exchange.dir, max_bytes: exchange.max_bytes }
    }
}

impl Exchange {
    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The largest file, in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Whether a file of `size` bytes may be there.
    pub fn admit(&self, size: u64) -> Result<(), Refused> {
        if size > self.max_bytes {
            return Err(Refused::TooLarge { max_mib: self.max_bytes >> 20 });
        }
        Ok(())
    }

    /// Begins a file. `title` is what somebody else calls it.
    pub async fn begin(&self, title: &str) -> Result<Making, Refused> {
        let name = format!("{}-{}", unique()?, safe(title));
        let part = Part(self.dir.join(format!(".{name}")));
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part.0)
            .await
            .map_err(|e| with_path(&e, &part.0))?;
        Ok(Making { file, part, name, size: 0, max_bytes: self.max_bytes })
    }

    /// The path of the file called `name`, which somebody else says; `None`: that is no name of a file
    /// here.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        plain.then(|| self.dir.join(name))
    }

    /// Opens the file called `name`, and tells its size.
    pub async fn open(&self, name: &str) -> io::Result<(File, u64)> {
        let path = self.path(name).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a file"))
        })?;
        // What leads elsewhere is not ours to hand on, and a pipe would keep us waiting for ever.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let opened = File::options().read(true).custom_flags(flags).open(&path).await;
        let file = opened.map_err(|e| match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::LOOP) => other(&path, "is a link: put the file itself there"),
            Some(Errno::NAMETOOLONG) => other(&path, "is too long a name"),
            // A socket.
            Some(Errno::NXIO) => other(&path, "is no file"),
            _ => with_path(&e, &path),
        })?;
        let metadata = file.metadata().await?;
        if !metadata.is_file() {
            return Err(other(&path, "is no file"));
        }
        Ok((file, metadata.len()))
    }

    /// A copy of a file of a reply, which nobody writes to any more, and which survives a loss of power. The same
    /// file of the same reply has one copy: `of` is whose reply it is, its key, and which of its files. Of a file that
    /// is not there there is only the name that its copy would have.
    pub async fn copy(
        &self,
        file: &content::File,
        of: (&str, &str, usize),
    ) -> Result<content::File, Refused> {
        let name = &file.file;
        let found = match self.open(name).await {
            Ok(found) => Some(found),
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound => None,
                io::ErrorKind::InvalidInput
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::Other => return Err(Refused::NoFile(e)),
                _ => return Err(e.into()),
            },
        };
        // A key may be used again when its reply is forgotten: then the file is another one.
        let version = match &found {
            Some((source, size)) => {
                let modified = source.metadata().await?.modified()?;
                let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Some((*size, since.as_nanos().to_string()))
            }
            None => None,
        };
        let of = serde_json::json!([of, name, version]).to_string();
        let digest = ring::digest::digest(&ring::digest::SHA256, of.as_bytes());
        let digest = protocol::id::hex(digest.as_ref().first_chunk::<8>().unwrap_or(&[0; 8]));
        let title = named(name);
        let copy = format!("{digest}-{}", safe(title));
        if let Some((mut source, size)) = found
            && !tokio::fs::try_exists(self.dir.join(&copy)).await?
        {
            self.admit(size)?;
            let mut making = self.begin(title).await?;
            let mut piece = vec![0; PIECE];
            loop {
                let read = source.read(&mut piece).await?;
                let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { break };
                making.write(read).await?;
            }
            making.file.sync_all().await?;
            making.name.clone_from(&copy);
            making.finish(None).await?;
        }
        File::open(&self.dir).await?.sync_all().await?;
        let title = file.title.clone().or_else(|| Some(title.to_owned()));
        Ok(content::File { kind: file.kind, file: copy, title })
    }
}

impl Making {
    /// Appends.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.max_bytes {
            return Err(Refused::TooLarge { max_mib: self.max_bytes >> 20 });
        }
        Ok(self.file.write_all(bytes).await?)
    }

    /// Everything is written: it gets its name.
    pub async fn finish(mut self, mime: Option<String>) -> Result<Fetched, Refused> {
        self.file.flush().await?;
        let path = self.part.0.with_file_name(&self.name);
        tokio::fs::rename(&self.part.0, &path).await.map_err(|e| with_path(&e, &path))?;
        Ok(Fetched { file: self.name, size: self.size, mime })
    }
}

fn other(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{} {what}", path.display()))
}

fn with_path(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The media type of a picture that models read, by its first bytes.
pub fn picture_kind(bytes: &[u8]) -> Option<&'static str> {
    let is = |start: &[u8]| bytes.starts_with(start);
    let webp = || is(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    match () {
        () if is(b"\x89PNG\r\n\x1a\n") => Some("image/png"),
        () if is(b"\xff\xd8\xff") => Some("image/jpeg"),
        () if is(b"GIF8") => Some("image/gif"),
        () if webp() => Some("image/webp"),
        () => None,
    }
}

/// What people call the file of this name: without what is put before the names of copies and of what is brought.
fn named(name: &str) -> &str {
    let is_ours = |head: &str| head.len() == 16 && head.bytes().all(|b| b.is_ascii_hexdigit());
    let own = name.split_once('-').filter(|(head, rest)| is_ours(head) && !rest.is_empty());
    own.map_or(name, |(_, rest)| rest)
}

/// Never used before.
fn unique() -> io::Result<String> {
    Ok(protocol::id::hex(&clock::random::<8>()?))
}

/// `title` as the end of a file name: its own end, since that tells what it is.
fn safe(title: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' }
    };
    let name: String = title.chars().map(plain).collect();
    let from = name.ceil_char_boundary(name.len().saturating_sub(NAME_MAX));
    let end = name.get(from..).unwrap_or_default();
    if end.is_empty() { "file".to_owned() } else { end.to_owned() }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FileType, Mode};

    use super::*;

    fn exchange(max_bytes: u64) -> (tempfile::TempDir, Exchange) {
        let dir = tempfile::tempdir().unwrap();
        let exchange = Exchange { dir: dir.path().to_owned(), max_bytes };
        (dir, exchange)
    }

    fn files(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path()).unwrap().count()
    }

    #[tokio::test]
    async fn a_file_is_whole_or_not_there() {
        let (dir, exchange) = exchange(10);
        let mut making = exchange.begin("../../a b.png").await.unwrap();
        making.write(b"12345").await.unwrap();
        let fetched = making.finish(None).await.unwrap();
        assert_eq!(fetched.size, 5);
        assert!(fetched.file.ends_with("-.._.._a_b.png"), "{}", fetched.file);
        assert_eq!(std::fs::read(exchange.path(&fetched.file).unwrap()).unwrap(), b"12345");
        assert_eq!(exchange.open(&fetched.file).await.unwrap().1, 5);

        let mut large = exchange.begin("").await.unwrap();
        large.write(b"1234567890").await.unwrap();
        assert!(matches!(large.write(b"1").await, Err(Refused::TooLarge { .. })));
        drop(large);
        drop(exchange.begin("never finished").await.unwrap());
        assert_eq!(files(&dir), 1);
    }

    fn told(file: &str) -> content::File {
        content::File { kind: content::FileKind::File, file: file.to_owned(), title: None }
    }

    #[tokio::test]
    async fn a_reply_has_a_copy_of_its_file_and_one_only() {
        let (dir, exchange) = exchange(10);
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a-b c.png"), "12345").unwrap();
        let copy = exchange.copy(&told("a-b c.png"), ("agent", "k", 0)).await.unwrap();
        assert_eq!(copy.title.as_deref(), Some("a-b c.png"), "people see the name that it had");
        assert_eq!(exchange.copy(&told("a-b c.png"), ("agent", "k", 0)).await.unwrap(), copy);
        assert_eq!(files(&dir), 2);
        for other in [("agent", "l", 0), ("agent", "k", 1), ("another", "k", 0)] {
            let other = exchange.copy(&told("a-b c.png"), other).await.unwrap();
            assert_ne!(other.file, copy.file);
        }
        std::fs::write(path("a-b c.png"), "678").unwrap();
        assert_eq!(std::fs::read(path(&copy.file)).unwrap(), b"12345");
        let again = exchange.copy(&told("a-b c.png"), ("agent", "k", 0)).await.unwrap();
        assert_eq!(std::fs::read(path(&again.file)).unwrap(), b"678", "the key is used again");
        // What we have put there ourselves is called as whoever told of it did.
        let copy = exchange.copy(&told(&copy.file), ("agent", "m", 0)).await.unwrap();
        assert_eq!(copy.title.as_deref(), Some("a-b_c.png"));
        // What is not there yet is not sent when it is.
        let none = exchange.copy(&told("none"), ("agent", "k", 0)).await.unwrap();
        assert!(!path(&none.file).exists() && none.title.as_deref() == Some("none"));
        let before = files(&dir);
        std::fs::write(path("large"), "12345678901").unwrap();
        std::os::unix::fs::symlink(path("large"), path("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (name, why) in [
            ("large", "larger than"),
            ("link", "is a link"),
            ("../x", "no name"),
            ("socket", "is no file"),
            (&"ä".repeat(130), "too long"),
        ] {
            let refused = exchange.copy(&told(name), ("agent", "k", 0)).await.unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
            assert!(!matches!(refused, Refused::Io(_)), "{refused}");
        }
        assert_eq!(files(&dir), before + 3, "nothing is left of them");
    }

    #[tokio::test]
    async fn a_name_leads_nowhere_else() {
        let (dir, exchange) = exchange(10);
        for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", ".hidden", "a\0"] {
            assert!(exchange.path(name).is_none(), "{name:?}");
            assert!(exchange.open(name).await.is_err(), "{name:?}");
        }
        std::fs::create_dir(dir.path().join("d")).unwrap();
        assert!(exchange.open("d").await.is_err());
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "here").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        let why = exchange.open("link").await.unwrap_err().to_string();
        assert!(why.contains("is a link"), "{why}");
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let why = exchange.open("pipe").await.unwrap_err().to_string();
        assert!(why.contains("is no file"), "{why}");
        let long = safe(&"ä".repeat(300));
        assert!(long.len() <= NAME_MAX && !long.is_empty());
    }
}
