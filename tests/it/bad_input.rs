//! What is said to a person who mistypes (F57, F59): the text, the hint and the exit code.

use crate::gateway::{Gateway, stderr, stdout};

const GOOD: &str = "[platform.local]\n[agent.echo]\n";

/// The exit code and the error of a command, without the names that differ from run to run.
fn told(gateway: &Gateway, args: &[&str]) -> String {
    let output = gateway.run(args);
    let code = output.status.code().unwrap();
    let dir = gateway.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    format!("exit {code}\n{}", stderr(&output).replace(dir, "DIR"))
}

fn checked(config: &str) -> String {
    told(&Gateway::new(config), &["check"])
}

#[test]
fn a_configuration_that_is_wrong() {
    insta::assert_snapshot!("unknown_section", checked("[platfrom.feishu]\n"));
    insta::assert_snapshot!(
        "unknown_key",
        checked("[platform.local]\nagnet = \"echo\"\n[agent.echo]\n")
    );
    insta::assert_snapshot!("wrong_type", checked("[agent.socket]\nconcurrency = \"many\"\n"));
    insta::assert_snapshot!("no_toml", checked("[platform\n"));
    insta::assert_snapshot!(
        "missing_secret",
        checked("[platform.feishu]\napp_id = \"cli_a\"\napp_secret_file = \"{dir}/nowhere\"\n")
    );
    insta::assert_snapshot!(
        "no_secret_variable",
        checked(
            "[platform.feishu]\napp_id = \"cli_a\"\napp_secret_env = \"HERMES_GW_TEST_UNSET\"\n"
        )
    );
}

/// What a tool needs of the file is where the supervisor is, and that can be said otherwise.
#[test]
fn a_tool_that_cannot_read_the_file_says_how_the_supervisor_is_reached() {
    let gateway = Gateway::running(GOOD);
    let file = gateway.path("config.toml");
    let without_state_dir = |args: &[&str]| {
        let mut command = std::process::Command::new(crate::gateway::PROGRAM);
        command.arg("--config").arg(&file).args(args).output().unwrap()
    };
    std::fs::write(&file, "[platform\n").unwrap();
    let backup = gateway.path("backup.db");
    for args in [
        &["ctl", "status"][..],
        &["ctl", "events"],
        &["ctl", "restart"],
        &["ctl", "kill"],
        &["ctl", "kill", "--force"],
        &["ctl", "parked", "list"],
        &["ctl", "backup", backup.to_str().unwrap()],
        &["chat"],
    ] {
        let output = without_state_dir(args);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{args:?}: {told}");
        assert!(
            told.contains("hint: nothing was asked: mend the file")
                && told.contains("--state-dir DIR"),
            "{told}"
        );
    }
    assert!(gateway.run(&["ctl", "status"]).status.success());
    std::fs::remove_file(&file).unwrap();
    let output = without_state_dir(&["ctl", "status"]);
    assert_eq!(output.status.code(), Some(66));
    assert!(
        stderr(&output).contains("hint: nothing was asked: name an existing file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_configuration_out_of_a_pipe_is_in_no_directory() {
    let gateway = Gateway::new("[agent.relay]\nsecret_file = \"secret\"\n");
    std::fs::write(gateway.path("secret"), "secret").unwrap();
    assert!(gateway.run(&["check"]).status.success());
    let mut command = std::process::Command::new(crate::gateway::PROGRAM);
    let file = std::fs::File::open(gateway.path("config.toml")).unwrap();
    let output = command.args(["check", "--config", "/dev/stdin"]).stdin(file).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let why = "[agent.relay] secret_file must be an absolute path";
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
}

#[test]
fn a_log_that_is_off_is_silent() {
    let gateway = Gateway::running(&format!("[gateway]\nlog = \"off\"\n{GOOD}"));
    gateway.wait_ready("local");
    assert_eq!(gateway.log(), "");
}

#[test]
fn a_configuration_file_that_is_missing() {
    let gateway = Gateway::new(GOOD);
    std::fs::remove_file(gateway.path("config.toml")).unwrap();
    insta::assert_snapshot!("no_config", told(&gateway, &["supervise"]));
}

#[test]
fn a_configuration_file_that_says_nothing_or_is_no_text() {
    insta::assert_snapshot!("empty_config", checked("# all of it gone\n"));
    let gateway = Gateway::new(GOOD);
    let path = gateway.path("config.toml");
    let wide: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(&path, [&[0xff, 0xfe], &wide[..]].concat()).unwrap();
    insta::assert_snapshot!("utf_16", told(&gateway, &["check"]));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    insta::assert_snapshot!("config_is_a_directory", told(&gateway, &["check"]));
    let long = "x".repeat(100);
    insta::assert_snapshot!(
        "long_listen",
        checked(&format!("[platform.local]\n[agent.a]\nkind = \"socket\"\nlisten = \"/{long}\"\n"))
    );
}

/// F58
#[test]
fn one_wrong_block_holds_its_instance_and_nobody_else() {
    let gateway = Gateway::running(
        "[platform.local]\n[platform.feishu]\napp_id = \"cli_a\"\napp_secret_file = \"{dir}/nowhere\"\n[agent.echo]\n",
    );
    gateway.wait_ready("local");
    let feishu = gateway.instance("feishu");
    assert_eq!(feishu["phase"], "held");
    assert!(feishu["reason"].as_str().unwrap().contains("nowhere"), "{feishu}");
    assert!(feishu["remedy"].is_string());
    let restarted = gateway.run(&["ctl", "restart", "feishu"]);
    assert_eq!(restarted.status.code(), Some(66));
    assert_eq!(gateway.run(&["check"]).status.code(), Some(66), "one cause, one code");
    assert!(stdout(&restarted).starts_with("feishu: held: "), "{}", stdout(&restarted));
    let all = gateway.run(&["ctl", "restart"]);
    assert_eq!(all.status.code(), Some(66), "the first failure's code");
    assert!(stdout(&all).contains("local: restarted"), "all are tried: {}", stdout(&all));
}

/// F58: whatever lies where a secret should be, nobody waits for it and nobody reads it without end.
#[test]
fn a_secret_that_is_no_file_holds_its_instance_and_nobody_else() {
    let block = |name: &str| {
        format!(
            "[platform.{name}]\nkind = \"feishu\"\napp_id = \"cli_{name}\"\napp_secret_file = \"{{dir}}/{name}\"\n"
        )
    };
    let bad = ["pipe", "endless", "huge"];
    let blocks: String = bad.iter().map(|name| block(name)).collect();
    let linked = block("linked");
    let mut gateway = Gateway::new(&format!("{GOOD}{blocks}{linked}"));
    let made = std::process::Command::new("mkfifo").arg(gateway.path("pipe")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("/dev/zero", gateway.path("endless")).unwrap();
    std::fs::write(gateway.path("huge"), vec![b'x'; 2 << 20]).unwrap();
    // As secrets are mounted.
    std::fs::write(gateway.path("..data"), "a secret").unwrap();
    std::os::unix::fs::symlink("..data", gateway.path("linked")).unwrap();
    gateway.start();
    gateway.wait_ready("local");
    for name in bad {
        let held = gateway.instance(name);
        assert_eq!(held["phase"], "held", "{held}");
        assert!(held["reason"].as_str().unwrap().contains(&format!("/{name}: it is ")), "{held}");
    }
    assert_ne!(gateway.instance("linked")["phase"], "held");
    let reloaded = gateway.run(&["ctl", "reload"]);
    assert_eq!(reloaded.status.code(), Some(0), "{}", stderr(&reloaded));
    assert_eq!(gateway.run(&["check"]).status.code(), Some(66));
    assert_eq!(gateway.run(&["ctl", "kill", "--force"]).status.code(), Some(0));
    gateway.left();
}

/// What `check` says of a configuration that stands at `path`, with `text` on its standard input.
fn checked_at(path: &std::path::Path, text: &str) -> std::process::Output {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = std::process::Command::new(crate::gateway::PROGRAM);
    command.args(["check".as_ref(), "--config".as_ref(), path.as_os_str()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for part in text.split_inclusive('\n') {
        input.write_all(part.as_bytes()).unwrap();
    }
    drop(input);
    child.wait_with_output().unwrap()
}

#[test]
fn a_configuration_out_of_a_pipe_is_read_and_one_that_never_comes_or_never_ends_is_refused() {
    let gateway = Gateway::new(GOOD);
    let piped = checked_at("/dev/stdin".as_ref(), GOOD);
    assert!(piped.status.success(), "{}", stderr(&piped));
    let endless = checked_at("/dev/zero".as_ref(), "");
    assert_eq!(endless.status.code(), Some(78), "{}", stderr(&endless));
    assert!(stderr(&endless).contains("larger than 4 MiB"), "{}", stderr(&endless));
    let pipe = gateway.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let silent = checked_at(&pipe, "");
    assert_eq!(silent.status.code(), Some(66), "{}", stderr(&silent));
    assert!(stderr(&silent).contains("nobody writes to it"), "{}", stderr(&silent));
}

/// The rule of a list is named as it is written.
#[test]
fn a_wrong_route_is_named_as_it_stands_in_the_file() {
    let told = checked(&format!("{GOOD}[[route]]\nagnet = \"echo\"\n"));
    assert!(told.contains("[[route]] \"agnet\" is no key"), "{told}");
    let told = checked(&format!("{GOOD}[[hooks.command]]\nevent = \"x\"\n"));
    assert!(told.contains("[[hooks.command]] \"event\" is no key"), "{told}");
}

#[test]
fn an_unknown_instance() {
    let gateway = Gateway::running(GOOD);
    insta::assert_snapshot!("unknown_instance", told(&gateway, &["ctl", "restart", "lokal"]));
    insta::assert_snapshot!("strange_instance", told(&gateway, &["ctl", "kill", "feishu"]));
}

#[test]
fn a_state_directory_that_cannot_be_one() {
    let gateway = Gateway::new(GOOD);
    std::fs::write(gateway.state(), "a file").unwrap();
    insta::assert_snapshot!("state_is_a_file", told(&gateway, &["supervise"]));

    let gateway = Gateway::new(GOOD);
    std::fs::create_dir(gateway.state()).unwrap();
    std::fs::create_dir(gateway.state().join("lock")).unwrap();
    insta::assert_snapshot!("lock_is_a_directory", told(&gateway, &["supervise"]));

    let gateway = Gateway::new(GOOD);
    std::fs::create_dir(gateway.state()).unwrap();
    std::fs::write(gateway.state().join("lock"), "").unwrap();
    std::fs::create_dir(gateway.state().join("store.db")).unwrap();
    insta::assert_snapshot!("store_is_a_directory", told(&gateway, &["supervise", "-q"]));

    let gateway = Gateway::new(GOOD);
    std::fs::create_dir(gateway.state()).unwrap();
    std::fs::write(gateway.state().join("lock"), "").unwrap();
    std::fs::write(gateway.state().join("exchange"), "mine").unwrap();
    assert_eq!(gateway.run(&["supervise", "-q"]).status.code(), Some(73));
    let status = gateway.run(&["ctl", "status"]);
    assert!(stderr(&status).contains("s/exchange"), "why it was refused: {}", stderr(&status));

    let gateway = Gateway::new(GOOD);
    std::fs::create_dir_all(gateway.state().join("lock")).unwrap();
    assert_eq!(gateway.run(&["supervise", "-q"]).status.code(), Some(73));
    let status = gateway.run(&["ctl", "status"]);
    assert_eq!(status.status.code(), Some(69));
    let why = stderr(&status);
    assert!(why.contains("none can: ") && why.contains("s/lock is a directory"), "{why}");

    let gateway = Gateway::new(GOOD);
    std::fs::create_dir(gateway.state()).unwrap();
    std::fs::write(gateway.state().join("gw.sock"), "mine").unwrap();
    insta::assert_snapshot!("socket_is_a_file", told(&gateway, &["supervise", "-q"]));
    assert_eq!(std::fs::read(gateway.state().join("gw.sock")).unwrap(), b"mine", "it is kept");
    // It did not crash.
    let status = gateway.run(&["ctl", "status"]);
    assert!(stderr(&status).contains("it left at"), "{}", stderr(&status));
}

#[test]
fn a_shared_directory_is_not_taken_over() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = Gateway::new(GOOD);
    std::fs::create_dir(gateway.state()).unwrap();
    let mode = |mode| std::fs::set_permissions(gateway.state(), PermissionsExt::from_mode(mode));
    std::fs::write(gateway.state().join("something"), "of somebody").unwrap();
    mode(0o755).unwrap();
    insta::assert_snapshot!("shared_directory", told(&gateway, &["supervise"]));
    let after = std::fs::metadata(gateway.state()).unwrap().permissions().mode();
    assert_eq!(after & 0o777, 0o755);
    assert_eq!(std::fs::read_dir(gateway.state()).unwrap().count(), 1);
}

/// Root may read everything, so this speaks through another user.
#[test]
fn a_state_directory_of_somebody_else() {
    let gateway = Gateway::new(GOOD);
    std::fs::create_dir(gateway.state()).unwrap();
    let mut command = gateway.command();
    command.arg("supervise");
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::process::CommandExt;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(gateway.path(""), open).unwrap();
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(gateway.state(), closed).unwrap();
        // A copy, since the program itself may stand where only root can go.
        let program = gateway.path("hermes-gw");
        // By a process of its own: a file that this one has open for writing cannot be run while any
        // other test is between fork and exec.
        let copy =
            std::process::Command::new("cp").arg(crate::gateway::PROGRAM).arg(&program).status();
        assert!(copy.unwrap().success());
        let mut other = std::process::Command::new(program);
        other.args(command.get_args()).uid(65_534).gid(65_534);
        command = other;
    } else {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(gateway.state(), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(73), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: run as the owner of that path"), "{}", stderr(&output));
}

#[test]
fn a_path_that_is_too_long_for_a_socket() {
    let gateway = Gateway::new(GOOD);
    let long = gateway.path(&"d".repeat(100));
    let output = std::process::Command::new(crate::gateway::PROGRAM)
        .args(["supervise", "--state-dir", long.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(73));
    let told = stderr(&output);
    assert!(
        told.contains("at most 56 are possible") && told.contains("hint: name a shorter"),
        "{told}"
    );
    assert!(!long.exists(), "nothing was made");
}

/// A relative path means another place wherever one stands: XDG says to ignore it, and so is a home.
#[test]
fn a_home_that_is_no_absolute_path() {
    let gateway = Gateway::new(&format!(
        "{GOOD}[agent.mine]\nkind = \"exec\"\ncommand = [\"true\"]\ndir = \"~/a\"\n"
    ));
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(crate::gateway::PROGRAM);
        command.env_clear().envs(variables.iter().copied()).args(args);
        command.current_dir(gateway.path("")).output().unwrap()
    };
    let relative = [("HOME", "ann"), ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config")];
    for args in [&["ctl", "status"][..], &["check"], &["supervise"]] {
        let output = run(args, &relative);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(73), "{args:?}: {told}");
        let why = "neither XDG_STATE_HOME nor HOME is an absolute path\nhint: name a directory";
        assert!(told.contains(why), "{args:?}: {told}");
    }
    let entries = std::fs::read_dir(gateway.path("")).unwrap().count();
    assert_eq!(entries, 1, "nothing was made");
    // Nor is it what `~` stands for.
    let output = run(&["check", "--config", "config.toml", "--state-dir", "s"], &relative);
    let why = "dir starts with ~/, and HOME is no absolute path";
    assert!(stderr(&output).contains(why), "{}", stderr(&output));
    let absolute = gateway.path("home").display().to_string();
    let output = run(&["ctl", "status"], &[("HOME", &absolute), ("XDG_STATE_HOME", "state")]);
    let told = stderr(&output);
    assert!(told.contains(&format!("{absolute}/.local/state/hermes-gw/gw.sock")), "{told}");
}

#[test]
fn a_wrong_flag() {
    let gateway = Gateway::new(GOOD);
    insta::assert_snapshot!("wrong_flag", told(&gateway, &["supervise", "--repalce"]));
    insta::assert_snapshot!("wrong_time", told(&gateway, &["ctl", "kill", "--timeout", "soon"]));
    insta::assert_snapshot!("wrong_command", told(&gateway, &["ctl", "stauts"]));
}

/// F95: a rule that can never fit is told, and harms nothing.
#[test]
fn a_route_that_never_fits_is_told() {
    let gateway = Gateway::new(
        "[platform.local]\nagent = \"echo\"\n[agent.echo]\n[agent.mine]\nkind = \"socket\"\n\
         [platform.telegram]\ntoken_env = \"PATH\"\nagent = \"echo\"\n\
         [[route]]\nplatform = \"telegram\"\nchat = -100\nuser = 9\nagent = \"mine\"\n\
         [[route]]\nuser = 9\nagent = \"mine\"\n\
         [[route]]\nplatform = \"telegram\"\nuser = 9\nagent = \"echo\"\n",
    );
    let checked = gateway.run(&["check"]);
    let told = stdout(&checked);
    assert!(checked.status.success() && told.contains("user 9 directly → mine"), "{told}");
    let warnings: Vec<_> = told.lines().filter(|line| line.starts_with("warning ")).collect();
    assert_eq!(warnings.len(), 2, "{told}");
    assert!(warnings[0].contains("place 1") && warnings[0].contains("-100 is a group"), "{told}");
    assert!(warnings[1].contains("place 3") && warnings[1].contains("at place 2"), "{told}");
}

/// F06
#[test]
fn one_account_in_two_blocks_is_told() {
    let bot =
        |name: &str| format!("[platform.{name}]\nkind = \"telegram\"\ntoken_env = \"PATH\"\n");
    let gateway = Gateway::new(&format!("{GOOD}{}{}", bot("first"), bot("second")));
    let told = stdout(&gateway.run(&["check"]));
    let warnings: Vec<_> = told.lines().filter(|line| line.starts_with("warning ")).collect();
    assert_eq!(warnings.len(), 1, "{told}");
    let why = "[platform.second] has the account of [platform.first]";
    assert!(warnings[0].contains(why), "{told}");
}

/// The second one would be told in the status alone.
#[test]
fn one_port_in_two_blocks_and_a_secret_that_is_none_are_told() {
    let gateway = Gateway::new(
        "[platform.local]\nagent = \"echo\"\n[agent.echo]\n[agent.one]\nkind = \"relay\"\nsecret_env = \"PATH\"\n\
         [agent.two]\nkind = \"webhook\"\nurl = \"http://h/\"\nsecret_env = \"PATH\"\n\
         listen = \"127.0.0.1:8765\"\n",
    );
    let told = stdout(&gateway.run(&["check"]));
    let warnings: Vec<_> = told.lines().filter(|line| line.starts_with("warning ")).collect();
    assert_eq!(warnings.len(), 2, "{told}");
    assert!(warnings[0].contains("[agent.two] listens where [agent.one] does"), "{told}");
    assert!(warnings[1].contains("two is held") && warnings[1].contains("whsec_"), "{told}");
}

/// What only Telegram can do is no failure of whoever else is named.
#[test]
fn an_order_for_telegram_to_something_else() {
    let gateway = Gateway::running(GOOD);
    gateway.wait_ready("local");
    for name in ["local", "echo"] {
        let output = gateway.run(&["ctl", "telegram", "drop-pending", name]);
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        let why = format!("{name} is no platform telegram");
        assert!(stderr(&output).contains(&why), "{}", stderr(&output));
    }
}

/// Each problem is told once, however many places show it.
#[test]
fn a_problem_is_told_once() {
    let hook = "[[hooks.command]]\nevents = [\"message:sent\"]\ncommand = [\"no-such-hook\"]\n";
    let gateway = Gateway::new(&format!(
        "[platform.local]\nagnet = \"echo\"\n[agent.echo]\n\
         [platform.telegram]\ntoken_env = \"PATH\"\n[platform.telegram.access]\nusers = [\"@ann\"]\n\
         [platform.telegram.access.chat.-100]\nusers = [\"@ann\"]\n{hook}{hook}"
    ));
    let checked = gateway.run(&["check"]);
    let told = stdout(&checked) + &stderr(&checked);
    for problem in ["agnet", "@ann", "no-such-hook\""] {
        let lines = told.lines().filter(|line| line.contains(problem));
        assert_eq!(lines.count(), 1, "{problem}: {told}");
    }
    assert!(stdout(&checked).contains("local          WRONG platform local\n"), "{told}");
}

/// What is well written and cannot work as things are is told before it is started.
#[test]
fn programs_that_are_not_there_are_told() {
    let gateway = Gateway::new(
        "[platform.local]\nagent = \"mine\"\n[agent.mine]\nkind = \"exec\"\ncommand = [\"no-such-agent\"]\n\
         [agent.coder]\nkind = \"acp\"\ncommand = [\"sh\"]\ndir = \"no-such-dir\"\n\
         [[hooks.command]]\nevents = [\"mesage:sent\"]\ncommand = [\"sh\"]\n\
         [[hooks.command]]\nevents = [\"message:sent\"]\ncommand = [\"true\"]\ndir = \"config.toml\"\n",
    );
    let checked = gateway.run(&["check"]);
    let told = stdout(&checked);
    let warnings: Vec<_> = told.lines().filter(|line| line.starts_with("warning ")).collect();
    assert!(checked.status.success() && warnings.len() == 4, "{told}");
    let told_of = |words: [&str; 2]| {
        assert!(warnings.iter().any(|line| words.iter().all(|word| line.contains(word))), "{told}");
    };
    told_of(["mine", "no program \"no-such-agent\""]);
    told_of(["sh", "mesage:sent"]);
    told_of(["coder", "there is no directory "]);
    told_of(["true", "there is no directory "]);
    let talk = gateway.run(&["chat", "--timeout", "0s"]);
    let why = String::from_utf8_lossy(&talk.stderr).into_owned();
    assert!(talk.status.code() == Some(69) && why.contains("ctl status"), "{why}");
}
