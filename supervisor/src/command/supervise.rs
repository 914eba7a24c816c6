//! `hermes-gw supervise`: configuration → directories → lock → store → socket → children.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::control::{Request, Status, Stop};
use protocol::id::EventId;
use protocol::secret;
use supervisor::clock;
use supervisor::config::Config;
use supervisor::dirs;
use supervisor::error::Error;
use supervisor::identity::{self, Identity};
use supervisor::journal::Journal;
use supervisor::lock::{self, Holder, Left, Lock, Refused};
use supervisor::notify::{self, Manager};
use supervisor::paths::Paths;
use supervisor::process::limits::{self, Limits};
use supervisor::process::memory;
use supervisor::process::signals::{Asked, Signals, Wish};
use supervisor::process::spawn::{UsersMask, close_mask};
use supervisor::run::{self, Parts, Reader};
use supervisor::store::{Done, Opened, Store};
use supervisor::upgrade::{self, State};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ctl::{ANSWER, Client};
use super::{build, force, init_log, level, load};
use crate::args::{Common, Supervise};

/// How long the lock may stay taken by nobody who serves: a child of a holder that is gone, between fork and exec, or a
/// tool that looks.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How long it may take if it is killed then.
const FORCE: Duration = Duration::from_secs(9);
/// How long a holder that was asked to leave may take.
const REPLACE: Duration = Duration::from_secs(60);
/// After which a holder that still works on may as well hang.
const LONG: Duration = Duration::from_secs(5);
/// What a service manager is asked for, again and again, while we wait; and once while the store opens.
const EXTEND: Duration = Duration::from_secs(10);
const OPEN: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_millis(20);
/// Batches of answers that may wait for the run loop.
const ANSWERS: usize = 16;

pub(super) fn run(common: &Common, options: Supervise) -> Result<(), Error> {
    memory::keep_large_blocks_apart();
    let former = options.resume.map(State::read).transpose();
    let former =
        former.map_err(|source| Error::Os { what: "read what the former program left", source })?;
    let started_ms = former.as_ref().map_or_else(clock::unix_ms, |state| state.started_ms);
    let started = former.as_ref().and_then(|state| state.started_usec);
    let started = started.map_or_else(clock::now, clock::at_usec);
    let os = |what| move |source| Error::Os { what, source };
    let mut signals = Signals::take().map_err(os("listen to signals"))?;
    let mut limits = limits::set().map_err(os("set limits"))?;
    let config = reload(common).inspect_err(|e| leave_word(common, e, started_ms))?;
    init_log(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(user) = notify::ends_at_logout() {
        tracing::warn!(
            user,
            "this service ends when its user logs out: `loginctl enable-linger` keeps it, also after a start of the machine"
        );
    }
    let paths = super::paths(common, Some(&config))?;
    paths.check()?;
    if options.replace && force::is_within(&paths) {
        return Err(Error::Usage {
            message: "replace the gateway from within: the new one would end with the old one"
                .into(),
            hint: "`hermes-gw ctl restart` gives new workers, once this turn is over".into(),
        });
    }
    // Whatever we make is ours alone; children get the user's own mask back.
    let mut mask = close_mask();
    if let Some(state) = &former {
        limits = Limits::from_numbers(state.limits);
        mask = UsersMask::from_bits(state.mask);
    }
    dirs::make(&paths.state_dir)?;
    super::runtime()?.block_on(async {
        let mut manager = Manager::from_environment(clock::now());
        let taken = match &former {
            Some(state) => {
                let held = upgrade::take(state.lock).map_err(os("keep the lock"))?;
                Some(Lock::resumed(held))
            }
            None => take(common, &paths, options, &mut manager, &mut signals).await?,
        };
        let Some(mut lock) = taken else { return Ok(()) };
        let create = |source| Error::Create { what: "sign the lock", path: paths.lock(), source };
        let holder = holder(&paths, started_ms)
            .map_err(os("tell which process this is, for which /proc must be mounted"))?;
        lock.sign(&holder).map_err(create)?;
        let signed = paths.lock();
        let serve = async {
            dirs::make(&paths.runtime_dir)?;
            dirs::make(&paths.exchange())?;
            let journal =
                Journal::open(&paths.state_dir).map_err(os("start the journal's thread"))?;
            // A store that was damaged is mended before we serve, however long that takes.
            manager.extend(OPEN);
            let (tell, answers) = mpsc::channel(ANSWERS);
            let store = open(&paths.state_dir, former.as_ref(), tell)?;
            let released = CancellationToken::new();
            if options.leash {
                watch_leash(released.clone())?;
            }
            let build = build();
            let reader = Reader(Arc::new({
                let common = common.clone();
                move || reload(&common)
            }));
            let parts = Parts {
                paths,
                config,
                reader,
                lock,
                store,
                answers,
                journal,
                manager,
                signals,
                mask,
                limits,
                build,
                started_ms,
                started,
                released,
                former,
            };
            run::run(parts).await
        };
        let served = serve.await;
        if let Err(e) = &served {
            let left = Left { at_ms: clock::unix_ms(), error: Some(e.to_string()) };
            lock::give_up(&signed, left);
        }
        served
    })
}

/// What this process says of itself in the lock.
fn holder(paths: &Paths, started_ms: i64) -> std::io::Result<Holder> {
    Ok(Holder {
        identity: identity::own()?,
        version: env!("CARGO_PKG_VERSION").into(),
        started_ms,
        manager: if notify::is_systemd() { "systemd" } else { "none" }.into(),
        socket: paths.socket(),
        left: None,
    })
}

/// Says where `ctl status` looks why nothing was started, unless somebody runs there. Only a directory that was
/// named is known without the configuration; where none was, tools are told the same as we.
fn leave_word(common: &Common, why: &Error, started_ms: i64) {
    let Ok(paths) = super::locate(common) else { return };
    let Ok(holder) = holder(&paths, started_ms) else { return };
    if dirs::make(&paths.state_dir).is_ok()
        && let Ok(mut lock) = Lock::take(&paths.lock())
    {
        let error = Some(secret::cleaned(why.to_string()));
        let left = Some(Left { at_ms: clock::unix_ms(), error });
        let _ = lock.sign(&Holder { left, ..holder });
    }
}

fn reload(common: &Common) -> Result<Config, Error> {
    let mut config = load(common)?;
    if let Some(level) = level(common) {
        level.clone_into(&mut config.log);
    }
    Ok(config)
}

/// The store, which agents may hold events of.
fn open(
    dir: &Path,
    former: Option<&State>,
    tell: mpsc::Sender<Vec<Done>>,
) -> Result<(Store, Opened), Error> {
    let speaks = |state: &&State| state.protocol == protocol::hello::VERSION;
    let workers = former.filter(speaks).into_iter().flat_map(|state| &state.workers);
    let with_agents: Vec<_> =
        workers.flat_map(|worker| &worker.at_work).map(|event| EventId(event.id)).collect();
    match former {
        None => Store::try_out(dir)?,
        Some(State { store_files: Some(files), .. }) => Store::find(dir, *files)?,
        Some(State { store_files: None, .. }) => {}
    }
    Ok(Store::resume(dir, clock::unix_ms(), &with_agents, tell)?)
}

/// Takes the lock. Refused at once if somebody holds it, unless told to wait or to replace. `None`:
/// told to leave meanwhile.
async fn take(
    common: &Common,
    paths: &Paths,
    options: Supervise,
    manager: &mut Manager,
    signals: &mut Signals,
) -> Result<Option<Lock>, Error> {
    let path = paths.lock();
    let mut asked: Option<Identity> = None;
    let mut warned = false;
    let (mut waits_for, mut extended) = (None, None);
    let since = clock::now();
    loop {
        let holder = match Lock::take(&path) {
            Ok(lock) => return Ok(Some(lock)),
            Err(Refused::Io(source)) => {
                return Err(Error::Create { what: "take the lock", path, source });
            }
            Err(Refused::Held(holder)) => holder,
        };
        let waited = clock::now().duration_since(since);
        // Who says nothing of himself only looks whether somebody serves, or is just beginning to.
        let alive = holder.as_ref().is_some_and(|holder| identity::is_alive(&holder.identity));
        let held = || {
            let holder = holder.as_ref().map_or_else(|| "(unknown)".into(), ToString::to_string);
            let absolute =
                |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let config = common.config.as_ref().map(absolute);
            Error::Held { state_dir: paths.state_dir.clone(), config, holder }
        };
        if options.replace {
            let who = holder.as_ref().map(|holder| holder.identity.clone());
            match (&asked, who) {
                (None, Some(who)) if alive || answers(holder.as_deref()).await => {
                    match ask_to_leave(&path).await {
                        Ok(()) => asked = Some(who),
                        // It is just starting, or leaves already. One that hangs has time until we give up.
                        Err(Error::Unreachable { .. }) => {}
                        Err(_) if options.force => {}
                        Err(_) => return Err(held()),
                    }
                }
                // Somebody else has taken its place: to ask that one, too, would never end.
                (Some(former), Some(who)) if *former != who && alive => {
                    let holder = holder.map_or_else(String::new, |holder| holder.to_string());
                    return Err(Error::Overtaken { holder });
                }
                (_, _) => {}
            }
            if options.force && waited > FORCE {
                force::end(paths, REPLACE)?;
            } else if waited > REPLACE {
                return Err(held());
            }
            if !options.force && !warned && waited > LONG {
                warned = true;
                tracing::warn!(
                    "the one that runs has not left yet: where it hangs or is stopped, only `--replace --force` helps"
                );
            }
        } else if !options.wait && (alive || waited > AFTERMATH) {
            return Err(held());
        }
        if options.wait {
            let who = holder.as_ref().map_or(String::new(), ToString::to_string);
            if waits_for.as_ref() != Some(&who) {
                tracing::info!("waiting for the supervisor that runs: {who}");
                manager.status(&format!("waiting for the supervisor that runs: {who}"));
                waits_for = Some(who);
            }
            if extended.is_none_or(|at| clock::now() > at + EXTEND / 2) {
                manager.extend(EXTEND);
                extended = Some(clock::now());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            asked = signals.next() => match asked {
                Ok(Asked { wish: Wish::Reload, .. }) => {}
                Ok(asked) if notify::is_systemd() && !asked.is_from_above() => {
                    return Err(Error::ToldByStranger);
                }
                Ok(_) => return Ok(None),
                Err(source) => return Err(Error::Os { what: "listen to signals", source }),
            },
        }
    }
}

/// Whether the one whom the lock names is there: one in another container has its number among others.
async fn answers(holder: Option<&Holder>) -> bool {
    let Some(holder) = holder else { return false };
    let Ok(mut client) = Client::dial(&holder.socket).await else { return false };
    let status = client.ask::<Status>(&Request::Status, ANSWER).await;
    status.is_ok_and(|status| status.pid == holder.identity.pid)
}

/// Asks the holder over its socket. It leaves when what is under way has ended.
async fn ask_to_leave(path: &Path) -> Result<(), Error> {
    let Some(holder) = lock::holder(path) else { return Ok(()) };
    let mut client = Client::dial(&holder.socket).await?;
    client.say(&Request::Stop(Stop { force: false })).await?;
    tracing::info!(%holder, "asked the one that runs to leave");
    Ok(())
}

/// Lets the supervisor leave when whoever started it is gone.
fn watch_leash(released: CancellationToken) -> Result<(), Error> {
    let watch = move || {
        let mut sink = [0; 64];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut sink).is_ok_and(|n| n > 0) {}
        released.cancel();
    };
    let thread = std::thread::Builder::new().name("leash".into()).spawn(watch);
    thread.map_err(|source| Error::Os { what: "start the leash thread", source })?;
    Ok(())
}
