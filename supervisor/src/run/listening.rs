//! The supervisor's socket while it serves. Somebody may remove its file, or the whole directory (whoever
//! cleans `/tmp`, most likely): then nobody finds us although we live, until it is made anew (F101).

use std::time::{Duration, Instant};

use super::Gateway;
use crate::dirs;
use crate::error::Error;
use crate::paths::Paths;
use crate::socket::Socket;
use crate::upgrade::{self, State};

/// How often to look whether the file is there.
const LOOK: Duration = Duration::from_secs(1);
/// How long to leave in peace what stands in its place: a look knocks at it.
const AGAIN: Duration = Duration::from_secs(5);

/// Where tools and workers connect.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: Socket,
    look_at: Instant,
    /// Why it could not be made anew, once that is told.
    trouble: Option<String>,
}

impl Listening {
    /// Begins to listen, or goes on where the program that we were before does.
    pub(super) async fn begin(
        paths: &Paths,
        former: Option<&State>,
        now: Instant,
    ) -> Result<Self, Error> {
        let socket = match former {
            Some(State { socket: (number, path), socket_file, .. }) => {
                let listening = upgrade::take(*number);
                let listening =
                    listening.map_err(|source| Error::Os { what: "keep the socket", source })?;
                Socket::resumed(listening, path, *socket_file)?
            }
            None => Socket::listen(&paths.socket(), paths.holds_socket()).await?,
        };
        Ok(Self { socket, look_at: now + LOOK, trouble: None })
    }

    /// Makes the file anew if it is gone; something to tell, if there is.
    async fn look(&mut self, paths: &Paths, now: Instant) -> Option<Result<(), String>> {
        if now < self.look_at {
            return None;
        }
        self.look_at = now + LOOK;
        if self.socket.is_there() {
            return None;
        }
        let made = match dirs::make(&paths.runtime_dir) {
            Ok(()) => Socket::listen(&paths.socket(), paths.holds_socket()).await,
            Err(e) => Err(e),
        };
        match made {
            Ok(socket) => {
                self.socket = socket;
                self.trouble = None;
                Some(Ok(()))
            }
            Err(e) => {
                self.look_at = now + AGAIN;
                let trouble = e.to_string();
                let told = self.trouble.replace(trouble.clone());
                (told.as_ref() != Some(&trouble)).then_some(Err(trouble))
            }
        }
    }
}

impl Gateway {
    /// Looks after the socket. Nothing in here waits: a local connection is there at once or refused.
    pub(super) async fn look_at_socket(&mut self, listening: &mut Listening, now: Instant) {
        if let Some(made) = listening.look(&self.paths, now).await {
            self.announce_socket(made);
        }
    }
}
