//! What a worker may touch of this machine: as little as its adapter needs, and nobody may look into it.
//!
//! Bytes from outside are read here, so the adapters that are part of this program have no file system
//! but the system's own settings (resolver, certificates) where they talk to the network, and the
//! directory of their socket where they listen; platforms, and agents that may send files,
//! write files into the exchange directory, and agents read them there. Landlock keeps that for this
//! thread and all that come from it; on a kernel without it nothing is kept, and that is said. What
//! programs of a user may do is theirs.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, make_bitflags, path_beneath_rules,
};
use protocol::worker::{Adapter, TelegramSettings};
use tokio::signal::unix::{SignalKind, signal};

/// Where the resolver and the certificates are. Directories, since single files there are replaced.
const NETWORK: [&str; 8] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
];
/// What this worker itself has started is found there.
const PROCESSES: [&str; 1] = ["/proc"];

/// Nobody of the same user may read the memory of this process, and it leaves no core behind.
pub(crate) fn close_memory() {
    let closed = rustix::process::DumpableBehavior::NotDumpable;
    // A kernel that cannot has no cores to protect either.
    let _ = rustix::process::set_dumpable_behavior(closed);
}

/// A write beyond the limit of file sizes is to fail like any other, and not to end us. Programs that we start
/// are ended by it as ever.
pub(crate) fn outlive_large_files() {
    let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // It is heard from now on, also when nobody listens.
    let _ = signal(too_large);
}

/// What an adapter needs.
struct Needs {
    read: Vec<PathBuf>,
    /// Where it makes its socket.
    listen: Option<PathBuf>,
    /// Where it puts files.
    write: Option<PathBuf>,
}

/// Confines this thread to what `adapter` needs, and tells how far that went.
pub(crate) fn confine(adapter: &Adapter, exchange: &Path) -> &'static str {
    let Some(needs) = needs(adapter, exchange) else {
        return "nothing: it runs a program of yours";
    };
    match keep(&needs) {
        Ok(RulesetStatus::FullyEnforced) => "files",
        Ok(RulesetStatus::PartiallyEnforced) => "files, as far as this kernel can",
        Ok(RulesetStatus::NotEnforced) | Err(_) => "nothing: this kernel has no landlock",
    }
}

/// None: nobody can say what it needs.
fn needs(adapter: &Adapter, exchange: &Path) -> Option<Needs> {
    let mut read: Vec<PathBuf> = PROCESSES.iter().map(PathBuf::from).collect();
    let listen = match adapter {
        Adapter::Local(settings) => settings.socket.parent().map(Path::to_owned),
        Adapter::Socket(settings) => settings.socket.parent().map(Path::to_owned),
        Adapter::Echo => None,
        Adapter::Exec(_) | Adapter::ExecPlatform(_) | Adapter::Acp(_) | Adapter::Hooks(_) => {
            return None;
        }
        Adapter::Relay(settings) => {
            read.extend(settings.home.clone());
            None
        }
        Adapter::Feishu(_) | Adapter::Telegram(_) | Adapter::OpenAi(_) | Adapter::Webhook(_) => {
            read.extend(NETWORK.iter().map(PathBuf::from));
            let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os);
            read.extend(named.map(PathBuf::from));
            if let Adapter::Telegram(TelegramSettings { local_files: Some(dir), .. }) = adapter {
                read.push(dir.clone());
            }
            None
        }
    };
    let is_platform = matches!(adapter, Adapter::Feishu(_) | Adapter::Telegram(_));
    // Of the files of its replies an agent's worker makes copies; some make the files themselves.
    let replies = matches!(adapter, Adapter::Socket(_) | Adapter::Webhook(_) | Adapter::OpenAi(_));
    let puts = is_platform || replies;
    let write = puts.then(|| exchange.to_owned());
    if !is_platform && !matches!(adapter, Adapter::Local(_) | Adapter::Echo) {
        read.push(exchange.to_owned());
    }
    Some(Needs { read, listen, write })
}

fn keep(needs: &Needs) -> Result<RulesetStatus, RulesetError> {
    let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let listen: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeSock | RemoveFile});
    let write: BitFlags<AccessFs> =
        make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate | MakeReg | RemoveFile});
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .create()?
        .add_rules(path_beneath_rules(&needs.read, read))?
        .add_rules(path_beneath_rules(needs.listen.as_slice(), listen))?
        .add_rules(path_beneath_rules(needs.write.as_slice(), write))?
        .restrict_self()?;
    Ok(status.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, secret) = (dir.path().join("a.sock"), dir.path().join("secret"));
        std::fs::write(&secret, "s").unwrap();
        let settings = protocol::worker::LocalSettings { socket: socket.clone() };
        // It holds for this thread and what comes from it, and ends with it.
        let kept = std::thread::spawn(move || {
            let told = confine(&Adapter::Local(settings), Path::new("/nowhere"));
            if told.starts_with("nothing") {
                return told;
            }
            std::os::unix::net::UnixListener::bind(&socket).unwrap();
            std::fs::remove_file(&socket).unwrap();
            for path in [&secret, Path::new("/etc/passwd"), &std::env::current_exe().unwrap()] {
                assert!(std::fs::read(path).is_err(), "{}", path.display());
            }
            assert!(std::fs::write(&socket, "no file").is_err());
            assert!(std::process::Command::new("/bin/true").status().is_err());
            let inner = std::thread::spawn(|| std::fs::read("/etc/passwd").is_err());
            assert!(inner.join().unwrap());
            told
        });
        println!("kept: {}", kept.join().unwrap());
        assert!(std::fs::read("/etc/passwd").is_ok());
    }
}
