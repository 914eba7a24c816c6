//! `hermes-gw init`: a first configuration, from what a Hermes Agent has.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::gateway::{PROGRAM, stderr, stdout};

const TOKEN: &str = "123456789:AAF0-this_is_the_token_of_a_test_abc";
const ENV: &str = "# of a person
export TELEGRAM_BOT_TOKEN=123456789:AAF0-this_is_the_token_of_a_test_abc
TELEGRAM_ALLOWED_USERS='42, 43'
TELEGRAM_GROUP_ALLOWED_CHATS=-1001234567890
TELEGRAM_REQUIRE_MENTION=false
FEISHU_APP_ID=\"cli_of_a_test\"
FEISHU_APP_SECRET=the-secret-of-the-app
FEISHU_DOMAIN=lark
OPENROUTER_API_KEY=sk-or-what-is-nobodys-business
what is this
";

fn program(home: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(words).env_clear().env("HOME", home).stdin(Stdio::null());
    command.output().unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_a_hermes_agent_has_is_taken_over_and_nothing_is_shown() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join(".hermes/hooks")).unwrap();
    std::fs::write(home.path().join(".hermes/.env"), ENV).unwrap();
    let made = program(home.path(), &["init", "--from-hermes"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let said = stdout(&made) + &stderr(&made);
    for secret in [TOKEN, "the-secret-of-the-app", "sk-or-what", "what is this"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert!(said.contains("1 lines of"), "{said}");
    assert!(
        said.contains("take TELEGRAM_BOT_TOKEN, FEISHU_APP_ID, FEISHU_APP_SECRET out"),
        "{said}"
    );

    let is_root = nix::unistd::geteuid().is_root();
    assert_eq!(said.contains("init --config /etc/hermes-gw/config.toml"), is_root, "{said}");
    assert_eq!(said.contains("hermes-gw service install"), !is_root, "{said}");

    let dir = home.path().join(".config/hermes-gw");
    assert_eq!(mode(&dir), 0o700);
    for (name, text) in [("telegram-token", TOKEN), ("feishu-secret", "the-secret-of-the-app")] {
        assert_eq!(std::fs::read_to_string(dir.join(name)).unwrap().trim(), text);
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
    let env = std::fs::read_to_string(dir.join("hermes.env")).unwrap();
    let relay = std::fs::read_to_string(dir.join("relay-secret")).unwrap();
    assert!(env.contains(&format!("GATEWAY_RELAY_SECRET={}\n", relay.trim())), "{env}");
    assert!(relay.trim().len() == 64 && !said.contains(relay.trim()), "{said}");
    assert_eq!((mode(&dir.join("hermes.env")), mode(&dir.join("relay-secret"))), (0o600, 0o600));

    // It is what `check` finds by itself, and it is right.
    let checked = program(home.path(), &["check"]);
    let said = stdout(&checked);
    assert!(checked.status.success(), "{said}{}", stderr(&checked));
    for part in [
        "a bot at https://api.telegram.org, 2 users and 1 chats may speak, groups always",
        "app cli_of_a_test at https://open.larksuite.com, 0 users may speak, strangers get a code",
        "a Hermes Agent with the id hermes dials ws://127.0.0.1:8765/relay",
        "/.hermes/hooks",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    let before = std::fs::read_to_string(dir.join("config.toml")).unwrap();
    let again = program(home.path(), &["init", "--from-hermes"]);
    assert_eq!(again.status.code(), Some(73), "{}", stdout(&again));
    assert!(stderr(&again).contains("there already"), "{}", stderr(&again));
    assert_eq!(std::fs::read_to_string(dir.join("config.toml")).unwrap(), before);
}

/// Nobody may speak to the gateway who may not speak to Hermes, and whoever is named may.
#[test]
fn who_may_speak_is_who_could_before() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".hermes")).unwrap();
    let config = home.path().join("gw/config.toml");
    for (env, expected) in [
        ("TELEGRAM_ALLOWED_USERS=42, 43", "direct = \"list\"\nusers = [42, 43]\n"),
        // Its own list makes that nothing.
        (
            "TELEGRAM_ALLOWED_USERS=43,42\nGATEWAY_ALLOWED_USERS=43\nGATEWAY_ALLOW_ALL_USERS=true",
            "direct = \"list\"\nusers = [42, 43]\n",
        ),
        ("TELEGRAM_GROUP_ALLOWED_USERS=42\nGATEWAY_ALLOW_ALL_USERS=true", "direct = \"pairing\"\n"),
        ("GATEWAY_ALLOW_ALL_USERS=true", "direct = \"open\"\n"),
        ("GATEWAY_ALLOW_ALL_USERS=on", "direct = \"pairing\"\n"),
        (
            "TELEGRAM_ALLOWED_USERS=42\nTELEGRAM_ALLOW_ALL_USERS=yes",
            "direct = \"open\"\nusers = [42]\n",
        ),
        ("TELEGRAM_ALLOWED_USERS=*", "direct = \"open\"\n"),
        ("TELEGRAM_ALLOWED_USERS=007,+8,@ann", "direct = \"pairing\"\n"),
    ] {
        let text = format!("\u{feff}TELEGRAM_BOT_TOKEN={TOKEN}\n{env}");
        std::fs::write(home.path().join(".hermes/.env"), text).unwrap();
        let words = ["init", "--from-hermes", "--config", config.to_str().unwrap()];
        let made = program(home.path(), &words);
        assert!(made.status.success(), "{env}: {}{}", stdout(&made), stderr(&made));
        let written = std::fs::read_to_string(&config).unwrap();
        let (_, rest) = written.split_once("[platform.telegram.access]\n").unwrap();
        assert_eq!(rest.split_once("\n[agent").unwrap().0, expected, "{env}");
        assert_eq!(stdout(&made).contains("is no id"), env.contains("@ann"), "{}", stdout(&made));
        std::fs::remove_dir_all(home.path().join("gw")).unwrap();
    }
}

#[test]
fn what_cannot_be_taken_over_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let made = program(home.path(), &["init", "--from-hermes"]);
    assert_eq!(made.status.code(), Some(66), "{}", stderr(&made));
    assert!(stderr(&made).contains("--from-hermes DIR"), "{}", stderr(&made));

    let env = home.path().join("agent/.env");
    std::fs::create_dir_all(&env).unwrap();
    let made =
        program(home.path(), &["init", "--from-hermes", env.parent().unwrap().to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(66), "{}", stderr(&made));
    std::fs::remove_dir(&env).unwrap();
    for (text, why) in [
        ("DISCORD_BOT_TOKEN=x\n", "names neither"),
        ("TELEGRAM_BOT_TOKEN=your-token-here\n", "no token of a bot"),
        ("FEISHU_APP_ID=cli_x\nFEISHU_APP_SECRET=\n", "names neither"),
    ] {
        std::fs::write(&env, text).unwrap();
        let dir = home.path().join("agent");
        let made = program(home.path(), &["init", "--from-hermes", dir.to_str().unwrap()]);
        assert_eq!(made.status.code(), Some(66), "{}", stderr(&made));
        assert!(stderr(&made).contains(why), "{why}: {}", stderr(&made));
        assert!(!home.path().join(".config").exists());
    }

    // A file of one secret is in the way: not even the others are written.
    std::fs::write(&env, ENV).unwrap();
    let config = home.path().join("gw/config.toml");
    std::fs::create_dir(home.path().join("gw")).unwrap();
    std::fs::write(home.path().join("gw/feishu-secret"), "of somebody").unwrap();
    let dir = home.path().join("agent");
    let words =
        ["init", "--from-hermes", dir.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let made = program(home.path(), &words);
    assert_eq!(made.status.code(), Some(73), "{}", stderr(&made));
    let left: Vec<_> = std::fs::read_dir(home.path().join("gw")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn questions_need_somebody_to_answer_them() {
    let home = tempfile::tempdir().unwrap();
    let made = program(home.path(), &["init"]);
    assert_eq!(made.status.code(), Some(64), "{}", stderr(&made));
    assert!(
        stderr(&made).contains("no terminal") && stderr(&made).contains("--from-hermes"),
        "{}",
        stderr(&made)
    );
    assert!(!home.path().join(".config").exists());
}

/// Ctrl-C at a question for a secret: what is typed next is shown again.
#[test]
fn an_interrupted_question_leaves_the_terminal_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let pty = openpty(None, None).unwrap();
    let (mut master, slave) = (File::from(pty.master), pty.slave);
    let end = || Stdio::from(slave.try_clone().unwrap());
    let before = tcgetattr(&slave).unwrap();
    let mut command = Command::new("setsid");
    command.args(["--ctty", PROGRAM, "init"]).env_clear().env("HOME", home.path());
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    let mut said = Vec::new();
    for (question, answer) in [("alone): ", "telegram\n"), ("BotFather: ", "123\x03")] {
        while !String::from_utf8_lossy(&said).ends_with(question) {
            let mut some = [0; 1000];
            let n = master.read(&mut some).unwrap();
            said.extend(some.iter().take(n));
        }
        let is_shown = || tcgetattr(&slave).unwrap().local_flags.contains(LocalFlags::ECHO);
        while answer.starts_with('1') && is_shown() {}
        master.write_all(answer.as_bytes()).unwrap();
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(2), "{status:?}");
    assert_eq!(tcgetattr(&slave).unwrap(), before);
    assert!(!home.path().join(".config").exists());
}

/// A service of the system is nobody's whom the machine knows: systemd hands it what only root may read.
#[test]
fn a_secret_that_is_handed_over_takes_the_place_of_a_file_that_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(dir.path(), 0o755);
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("gw.toml"), "[platform.telegram]\ntoken_file = \"token\"\n[agent.echo]\n")
        .unwrap();
    std::fs::write(at("token"), TOKEN).unwrap();
    open(&at("token"), 0o000);
    std::fs::create_dir(at("handed")).unwrap();
    // By a process of its own: what this one has open for writing cannot be run while another test forks.
    assert!(Command::new("cp").arg(PROGRAM).arg(at("hermes-gw")).status().unwrap().success());
    let check = || {
        let mut command = Command::new(at("hermes-gw"));
        command.args(["check", "--state-dir", "/nowhere", "--config"]).arg(at("gw.toml"));
        command.env("CREDENTIALS_DIRECTORY", at("handed"));
        if nix::unistd::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        }
        command.output().unwrap()
    };
    let closed = check();
    assert_eq!(closed.status.code(), Some(66), "{}", stdout(&closed));
    assert!(stderr(&closed).contains("Permission denied"), "{}", stderr(&closed));
    std::fs::write(at("handed/token"), TOKEN).unwrap();
    let handed = check();
    assert!(handed.status.success(), "{}{}", stdout(&handed), stderr(&handed));
}
