//! `hermes-gw try`: a supervisor with a temporary state, and a chat with it, in one terminal.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use protocol::control::{Request, Stop};
use protocol::id::Instance;
use supervisor::clock;
use supervisor::config::{Config, System};
use supervisor::error::Error;
use supervisor::paths::Paths;
use tokio::signal::unix::{SignalKind, signal};

use super::ctl::Client;
use super::{chat, complain, environment, runtime};
use crate::args::{Chat, Common};

const LEAVE: Duration = Duration::from_secs(15);

pub(super) fn run(common: &Common, options: &Chat) -> Result<(), Error> {
    if common.state_dir.is_some() {
        return Err(Error::Usage {
            message: "try makes a state of its own; --state-dir has no place here".into(),
            hint: "`hermes-gw supervise --state-dir DIR` and `hermes-gw chat --state-dir DIR`"
                .into(),
        });
    }
    let config = match &common.config {
        // Only a file that is named: `try` shows the built-in default, whatever is installed.
        Some(_) => Config::load(common.config.as_deref(), &environment(), &System)?,
        None => Config::parse(supervisor::config::DEFAULT, None, &System)?,
    };
    config.check()?;
    let name = Instance::new(&options.instance).map_err(|e| Error::Usage {
        message: format!("try through {:?}: {e}", options.instance),
        hint: "name a `local` instance of the configuration".into(),
    })?;
    let there = config.instances.iter().map(|spec| (spec.name.as_str(), spec.kind.word()));
    chat::is_local(name.as_str(), there)?;
    runtime()?.block_on(session(common, options, &name))
}

async fn session(common: &Common, options: &Chat, name: &Instance) -> Result<(), Error> {
    let os = |what| move |source| Error::Os { what, source };
    // Before there is anything that must not be left behind.
    let listen = |kind| signal(kind).map_err(os("listen to signals"));
    let mut interrupted = listen(SignalKind::interrupt())?;
    let (mut told, mut hung_up) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    let state = State::make()?;
    let paths = Paths::choose(Some(&state.0), None, None, &environment())?;
    paths.check()?;
    let config = if let Some(file) = &common.config {
        file.clone()
    } else {
        let file = state.0.join("config.toml");
        let what = "write the configuration";
        let create = |source| Error::Create { what, path: file.clone(), source };
        std::fs::write(&file, supervisor::config::DEFAULT).map_err(create)?;
        file
    };
    let (socket, lock) = (paths.chat_socket(name), paths.lock());
    complain(&format!("hermes-gw: trying in {}; end with Ctrl-D", state.0.display()));
    let mut command = tokio::process::Command::new("/proc/self/exe");
    let level = super::level(common).unwrap_or("error");
    let verbosity = match level {
        "debug" => "-v",
        "trace" => "-vv",
        _ => "-q",
    };
    command.args(["supervise", "--leash", verbosity]);
    command.arg("--state-dir").arg(&state.0).arg("--config").arg(config);
    // A group of its own: Ctrl-C is for the chat, which then lets the supervisor leave.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut child = command.spawn().map_err(os("start /proc/self/exe as the supervisor"))?;
    let leash = child.stdin.take();
    let (tell, mut over) = tokio::sync::oneshot::channel();
    let waiting = tokio::spawn(async move {
        let status = child.wait().await;
        let _ = tell.send(());
        status
    });
    let until = clock::now() + options.timeout.min(LEAVE);
    let talk = async {
        while !socket.exists() && !waiting.is_finished() && clock::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        chat::converse(&socket, &lock, options, Some(&mut over)).await
    };
    let result = tokio::select! {
        result = talk => result,
        _ = interrupted.recv() => Ok(()),
        _ = told.recv() => Ok(()),
        _ = hung_up.recv() => Ok(()),
    };
    if result.is_err() {
        // What is under way is for somebody who has left, or does not come.
        let forced = async {
            let mut client = Client::dial(&paths.socket()).await?;
            client.say(&Request::Stop(Stop { force: true })).await
        };
        let _ = forced.await;
    }
    drop(leash);
    let _ = tokio::time::timeout(LEAVE, waiting).await;
    result
}

/// A directory that is gone when we are.
struct State(PathBuf);

impl State {
    fn make() -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt;
        let bytes: [u8; 6] =
            clock::random().map_err(|source| Error::Os { what: "draw random numbers", source })?;
        let name = protocol::id::hex(&bytes);
        let path = std::env::temp_dir().join(format!("hermes-gw-{name}"));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|source| Error::Create {
            what: "make the directory",
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
