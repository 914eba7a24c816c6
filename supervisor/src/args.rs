//! The command line.
#![expect(clippy::doc_markdown, reason = "the comments here are the texts of --help")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::control::Refusal;
use protocol::id::ParkedId;
use supervisor::exit::Code;

/// A gateway between chat platforms and an AI agent that never loses a message.
#[derive(Debug, Parser)]
#[command(
    name = "hermes-gw",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        hermes-gw try                    see it work, in this terminal, leaving nothing behind\n  \
        hermes-gw supervise              run the gateway in the foreground\n  \
        hermes-gw ctl status             how it is\n  \
        hermes-gw ctl restart feishu     a new worker for one instance\n  \
        hermes-gw ctl kill --force       end everything at once, also what hangs"
)]
pub(crate) struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Reads the command line. The error knows how to print itself.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    Cli::try_parse()
}

/// Whether the command line, right or wrong, asks for JSON.
pub(crate) fn want_json() -> bool {
    std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json")
}

/// What is wrong with the command line, for programs.
pub(crate) fn refusal(error: &clap::Error) -> Refusal {
    let text = error.to_string();
    let (what, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let tip = rest.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let (message, hint) = match what.strip_prefix("error: ") {
        Some(what) => (what, tip.unwrap_or("`--help` tells what is possible")),
        // The help, since there was no command at all.
        None => ("no command was given", "`hermes-gw --help` lists them"),
    };
    Refusal {
        code: Code::Usage.number(),
        message: message.trim_end().into(),
        hint: Some(hint.into()),
    }
}

/// What applies to every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Configuration file [default: $HERMES_GW_CONFIG, $XDG_CONFIG_HOME/hermes-gw/config.toml,
    /// /etc/hermes-gw/config.toml, else the built-in one: platform local, agent echo]
    #[arg(short, long, global = true, value_name = "FILE", hide_short_help = false)]
    pub(crate) config: Option<PathBuf>,
    /// State directory: lock, store, socket [default: gateway.state_dir, $STATE_DIRECTORY,
    /// $XDG_STATE_HOME/hermes-gw]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// One JSON object on standard output instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say less: errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// When to use colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway in the foreground
    #[command(
        after_help = "TERM and INT drain and leave; a second one forces. HUP reads the configuration \
        anew.\n\n\
        Examples:\n  hermes-gw supervise\n  hermes-gw supervise --config gw.toml\n  \
        hermes-gw supervise --replace    take over from the one that runs"
    )]
    Supervise(Supervise),
    /// Try it: supervisor and chat in this terminal, with a temporary state
    #[command(after_help = "Examples:\n  hermes-gw try\n  echo hello | hermes-gw try")]
    Try(Chat),
    /// Talk to the agent through the running gateway's `local` instance
    #[command(after_help = "Examples:\n  hermes-gw chat\n  echo hello | hermes-gw chat\n  \
        hermes-gw chat --name ideas      another conversation")]
    Chat(Chat),
    /// Read the configuration and explain it
    #[command(
        after_help = "Examples:\n  hermes-gw check\n  hermes-gw check --config gw.toml --json"
    )]
    Check,
    /// Look for what is wrong here, and say what helps
    #[command(
        after_help = "It changes nothing. What is wrong makes the exit code, that of the first finding; \
        what somebody should only think about does not.\n\n\
        Examples:\n  hermes-gw doctor\n  hermes-gw doctor --json"
    )]
    Doctor,
    /// Write a configuration and the files of its secrets; asks for what it needs
    #[command(
        after_help = "Nothing is written over. Secrets are not shown while you type, and lie in files of their \
        own beside the configuration.\n\n\
        Examples:\n  hermes-gw init\n  \
        hermes-gw init --from-hermes     what ~/.hermes/.env says of Telegram and Feishu"
    )]
    Init {
        /// Ask nothing: take over the bots of a Hermes Agent from its .env, and make it the agent
        #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "~/.hermes")]
        from_hermes: Option<PathBuf>,
    },
    /// Test a program that wants to be an agent: what does it do wrong?
    #[command(after_help = "Example:\n  hermes-gw agent-test -- python3 agent.py")]
    AgentTest {
        /// The program and its arguments
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// The handlers of hooks: who is told what
    #[command(subcommand)]
    Hooks(Hooks),
    /// The gateway as a service of systemd, for the system or for this user
    #[command(subcommand)]
    Service(Service),
    /// Ask and command the running supervisor
    #[command(subcommand)]
    Ctl(Ctl),
    /// Print what a shell needs to complete this command line
    #[command(after_help = "Examples:\n  \
        hermes-gw completions bash > /etc/bash_completion.d/hermes-gw\n  \
        hermes-gw completions zsh > ~/.zfunc/_hermes-gw\n  \
        hermes-gw completions fish > ~/.config/fish/completions/hermes-gw.fish")]
    Completions {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, with every command
    #[command(after_help = "Example:\n  \
        hermes-gw man > /usr/local/share/man/man1/hermes-gw.1")]
    Man,
    /// Whether this program could take over from a supervisor that runs; asked by that one only
    #[command(hide = true)]
    UpgradeCheck,
    /// One instance; started by the supervisor only
    #[command(hide = true)]
    Worker {
        /// For process lists; the truth comes over standard input
        instance: String,
    },
}

/// The gateway as a service.
#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Write its unit, enable and start it; renew the unit of an earlier version
    #[command(after_help = "Examples:\n  sudo hermes-gw service install\n  \
        hermes-gw service install --user --config ~/gw.toml\n\n\
        What you want otherwise belongs into a drop-in: systemctl edit hermes-gw")]
    Install(Scope),
    /// Stop it and take its unit away; its state stays
    Uninstall(Scope),
    /// Whether it is installed as it should be, and runs
    Status(Scope),
}

/// Whose service it is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Scope {
    /// The system's: it starts with the machine [default for root]
    #[arg(long, conflicts_with = "user")]
    pub(crate) system: bool,
    /// This user's [default for others]
    #[arg(long)]
    pub(crate) user: bool,
}

/// The handlers of hooks.
#[derive(Debug, Subcommand)]
pub(crate) enum Hooks {
    /// List them, and what is wrong with them
    List,
    /// Tell those that want to know of an event, with made-up values, and see what happens
    #[command(after_help = "Example:\n  hermes-gw hooks test agent:start")]
    Test {
        /// Which event
        #[arg(value_name = "EVENT", value_parser = clap::builder::PossibleValuesParser::new(crate::command::hooks::kinds()))]
        event: String,
    },
}

/// Options of `supervise`.
#[expect(clippy::struct_excessive_bools, reason = "flags")]
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Supervise {
    /// Ask a supervisor that already runs to leave, and take its place
    #[arg(long, conflicts_with = "wait")]
    pub(crate) replace: bool,
    /// With --replace: kill one that has not left after nine seconds, with everything it started
    #[arg(long, requires = "replace")]
    pub(crate) force: bool,
    /// Wait until a supervisor that already runs has left
    #[arg(long)]
    pub(crate) wait: bool,
    /// Leave when standard input ends
    #[arg(long, hide = true)]
    pub(crate) leash: bool,
    /// Go on with what another program has begun in this process
    #[arg(long, hide = true, value_name = "FD")]
    pub(crate) resume: Option<i32>,
}

/// Options of `chat` and `try`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Chat {
    /// The conversation
    #[arg(long, value_name = "NAME", default_value = "terminal")]
    pub(crate) name: String,
    /// The `local` instance to talk through
    #[arg(long, value_name = "INSTANCE", default_value = "local")]
    pub(crate) instance: String,
    /// How long to wait for a restart, and for answers after the last line of piped input
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Commands for the running supervisor.
#[derive(Debug, Subcommand)]
pub(crate) enum Ctl {
    /// How the supervisor and its instances are
    Status,
    /// Have a worker where there is none
    Start(Act),
    /// End workers and have new ones
    #[command(after_help = "Examples:\n  hermes-gw ctl restart feishu\n  \
        hermes-gw ctl restart feishu --force     without grace")]
    Restart(Force),
    /// End workers and have none; without a name: the supervisor and everything it started
    #[command(after_help = "Examples:\n  hermes-gw ctl kill feishu\n  \
        hermes-gw ctl kill               the supervisor drains and leaves\n  \
        hermes-gw ctl kill --force       at once, also a supervisor that hangs or is stopped")]
    Kill(Force),
    /// Become this program, without ending anything: same process, same workers, same connections
    #[command(
        after_help = "Examples:\n  hermes-gw ctl upgrade                    after a new file was installed\n  \
        hermes-gw ctl upgrade --program ./hermes-gw\n\n\
        The other program is asked first whether it can take over; if not, nothing changes."
    )]
    Upgrade {
        /// Another program than the one that runs this command
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// How long to wait for what is on its way to platforms
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
        timeout: Duration,
    },
    /// Read the configuration anew; only instances whose block has changed are started anew
    Reload,
    /// Print what changes, as it changes, one JSON object a line
    Events {
        /// When the supervisor has gone: how long to wait for the next, and go on with it
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
        timeout: Duration,
    },
    /// Print a token for dashboards: a request with it may look and no more
    Token,
    /// Copy the store into a new file, while it is in use
    #[command(after_help = "Example:\n  hermes-gw ctl backup /var/backups/hermes-gw.db\n\n\
        To restore: stop the supervisor, put the file in place of store.db in the state directory,\n\
        and remove store.db-wal.")]
    Backup {
        /// The new file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// What waits for the agent's acknowledgement, oldest first
    #[command(after_help = "Examples:\n  hermes-gw ctl inbox\n  hermes-gw ctl inbox --limit 10")]
    Inbox(Queue),
    /// Replies that wait to be sent, oldest first
    Outbox(Queue),
    /// What was set aside: events that could not be delivered, replies that did not arrive
    #[command(subcommand)]
    Parked(Parked),
    /// Who may speak to the agent: decisions that hold beside the configuration
    #[command(subcommand)]
    Access(Access),
    /// What only a person may do to a bot's queue at Telegram
    #[command(subcommand)]
    Telegram(Telegram),
}

/// What a person may do to a bot's queue at Telegram.
#[derive(Debug, Subcommand)]
pub(crate) enum Telegram {
    /// Take away the webhook that another program has set; its updates stay
    #[command(after_help = "Example:\n  hermes-gw ctl telegram delete-webhook telegram")]
    DeleteWebhook {
        /// The platform instance
        #[arg(value_name = "INSTANCE")]
        instance: String,
    },
    /// Forget for good what waits at Telegram and was not heard yet
    #[command(after_help = "Example:\n  hermes-gw ctl telegram drop-pending telegram\n\n\
        What was accepted is not touched: `ctl parked` and the inbox are the gateway's own.")]
    DropPending {
        /// The platform instance
        #[arg(value_name = "INSTANCE")]
        instance: String,
    },
}

/// Who may speak.
#[derive(Debug, Subcommand)]
pub(crate) enum Access {
    /// List rules, decisions and live codes
    List,
    /// Let in whoever was told this code
    #[command(after_help = "Example:\n  hermes-gw ctl access approve K7QM2XPB")]
    Approve {
        /// As it was told in the chat
        #[arg(value_name = "CODE")]
        code: String,
    },
    /// Let in a user, or everybody in a group
    #[command(after_help = "Examples:\n  hermes-gw ctl access allow feishu ou_0000\n  \
        hermes-gw ctl access allow telegram --chat -1001234567890")]
    Allow(Whom),
    /// Deny a user or a group, whatever the configuration says
    Deny(Whom),
    /// Take a decision back: the configuration alone decides
    Revoke(Whom),
}

/// A user or a group of a platform.
#[derive(Clone, Debug, Args)]
pub(crate) struct Whom {
    /// The platform instance
    #[arg(value_name = "INSTANCE")]
    pub(crate) instance: String,
    /// The platform's id; the log shows those that were denied
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    pub(crate) id: String,
    /// The id is a group's
    #[arg(long)]
    pub(crate) chat: bool,
}

/// What was set aside.
#[derive(Debug, Subcommand)]
pub(crate) enum Parked {
    /// List it: ids, where it belongs, why
    List,
    /// Show one whole
    Show {
        /// `e17` is an event, `r5` is a reply
        #[arg(value_name = "ID")]
        id: ParkedId,
    },
    /// Try again, under the old id; events at their old place in their conversation
    #[command(after_help = "Examples:\n  hermes-gw ctl parked replay e17 r5\n  \
        hermes-gw ctl parked replay --all")]
    Replay(Which),
    /// Remove for good
    Drop(Which),
}

/// How much of what waits.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Queue {
    /// So many at most
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// All of it
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

/// Which of what was set aside.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// `e17` is an event, `r5` is a reply
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<ParkedId>,
    /// All of it
    #[arg(long)]
    pub(crate) all: bool,
}

/// Which instances, and how long to wait.
#[derive(Clone, Debug, Args)]
pub(crate) struct Act {
    /// Instances; none: all
    #[arg(value_name = "INSTANCE")]
    pub(crate) instances: Vec<String>,
    /// How long to wait for the wanted phase
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Do not wait for the wanted phase
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// [`Act`], possibly without grace.
#[derive(Clone, Debug, Args)]
pub(crate) struct Force {
    /// Which and how long.
    #[command(flatten)]
    pub(crate) act: Act,
    /// No drain, no grace
    #[arg(long)]
    pub(crate) force: bool,
}

/// `500ms`, `30s`, `5m`, `2h`; a bare number means seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a time looks like 500ms, 30s, 5m or 2h")?;
    let time = match unit {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        "h" => Duration::from_secs(number.saturating_mul(3600)),
        _ => return Err("a time looks like 500ms, 30s, 5m or 2h".into()),
    };
    Ok(time.min(LONGEST))
}

/// Longer than anybody waits, and short enough to be added to any time.
const LONGEST: Duration = Duration::from_hours(24 * 365);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("18446744073709551615s"), Ok(LONGEST));
        assert!(duration("soon").is_err() && duration("3d").is_err() && duration("").is_err());
    }
}
