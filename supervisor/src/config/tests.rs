//! What the file may say, and what is said about a file that is wrong.

mod exec;

use super::*;

struct NoSecrets;

impl Surroundings for NoSecrets {
    fn directory(&self, config: &Path) -> Option<PathBuf> {
        (!config.starts_with("/dev")).then(|| config.parent().unwrap().to_owned())
    }
    fn home(&self) -> Option<PathBuf> {
        Some("/home/ann".into())
    }
    fn credentials(&self) -> Option<PathBuf> {
        None
    }
    fn file(&self, what: &str, path: &Path) -> Result<String, String> {
        if path.ends_with("missing") {
            return Err(format!("read {what} in {}: not found", path.display()));
        }
        Ok("from a file".into())
    }
    fn variable(&self, _: &str) -> Result<Secret, String> {
        Ok(Secret::new("from a variable"))
    }
}

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Some(Path::new("/etc/hermes-gw/config.toml")), &NoSecrets)
}

fn trouble(text: &str) -> String {
    match parse(text) {
        Err(e) => format!("{} {e}", e.code()),
        Ok(config) => config.check().map_or_else(|e| format!("{} {e}", e.code()), |()| "ok".into()),
    }
}

const FEISHU: &str = "[platform.feishu]\napp_id = \"cli_a\"\napp_secret_file = \"s\"\n";

#[test]
fn the_default_is_local_and_echo() {
    let config = Config::parse(DEFAULT, None, &NoSecrets).unwrap();
    config.check().unwrap();
    let names: Vec<_> = config.instances.iter().map(|s| (s.kind.role(), s.kind.word())).collect();
    assert_eq!(names, [("platform", "local"), ("agent", "echo")]);
}

#[test]
fn the_reference_file_is_valid_and_says_the_defaults() {
    let config = Config::parse(REFERENCE, None, &NoSecrets).unwrap();
    config.check().unwrap();
    let uncommented: String = REFERENCE
        .lines()
        .filter(|l| !l.trim_start().starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n");
    for key in ["kind", "app_id", "base_url", "direct", "groups", "lease_s", "concurrency"] {
        assert!(uncommented.contains(key), "{key} is not shown");
    }
    let agent = config.instances.iter().find(|s| s.kind == Kind::Agent(Some(AgentKind::Socket)));
    let Ok(instance::Body::Agent { delivery, .. }) = &agent.unwrap().body else { panic!() };
    assert_eq!(*delivery, crate::policy::delivery::Settings::default());
}

/// A key that is shown for one kind is not thereby shown for another.
#[test]
fn the_reference_file_shows_the_keys_of_each_kind() {
    let mut missing = Vec::new();
    for (role, kinds) in [
        ("agent", &["echo", "socket", "exec", "relay", "openai", "webhook", "acp"][..]),
        ("platform", &["local", "feishu", "telegram", "exec"]),
    ] {
        let everybodys = format!("of each {role}");
        for kind in kinds {
            let told = trouble(&format!("[{role}.x]\nkind = \"{kind}\"\nno-such-word-here = 1\n"));
            let keys = told.split("the keys here are ").nth(1).unwrap().lines().next().unwrap();
            let own = format!("kind = \"{kind}\"");
            let is_own =
                |block: &&str| block.contains(&own) && block.contains(&format!("[{role}."));
            let block = REFERENCE.split("\n\n").find(is_own).unwrap();
            for key in keys.split(", ") {
                let is_shown = |line: &str| line.contains(key) && line.contains(&everybodys);
                let of_its_own = format!("[{role}.{kind}.{key}]");
                if !block.contains(key)
                    && !REFERENCE.contains(&of_its_own)
                    && !REFERENCE.lines().any(is_shown)
                {
                    missing.push(format!("{role} {kind}: {key}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn an_empty_path_is_a_mistake_wherever_it_stands() {
    for (text, place) in [
        ("[gateway]\nstate_dir = \"\"\n", "[gateway] state_dir"),
        ("[gateway]\nruntime_dir = \"\"\n", "[gateway] runtime_dir"),
        ("[gateway]\nca_file = \"\"\n", "[gateway] ca_file"),
        ("[gateway]\nproxy_file = \"\"\n", "[gateway] proxy_file"),
        ("[hooks]\ndir = \"\"\n", "[hooks] dir"),
        ("[hooks]\npython = \"\"\n", "[hooks] python"),
        (
            "[[hooks.command]]\nevents = [\"*\"]\ncommand = [\"x\"]\ndir = \"\"\n",
            "[[hooks.command]] dir",
        ),
        (
            "[platform.feishu]\napp_id = \"a\"\napp_secret_file = \"\"\n",
            "[platform.feishu] app_secret_file",
        ),
        ("[platform.telegram]\ntoken_file = \"\"\n", "[platform.telegram] token_file"),
        (
            "[platform.telegram]\ntoken_file = \"t\"\nlocal_files = \"\"\n",
            "[platform.telegram] local_files",
        ),
        ("[agent.socket]\nlisten = \"\"\n", "[agent.socket] listen"),
        ("[agent.exec]\ncommand = [\"x\"]\ndir = \"\"\n", "[agent.exec] dir"),
        ("[platform.exec]\ncommand = [\"x\"]\ndir = \"\"\n", "[platform.exec] dir"),
        (
            "[platform.exec]\ncommand = [\"x\"]\nsecrets = { a_file = \"\" }\n",
            "[platform.exec.secrets] a_file",
        ),
        ("[agent.relay]\nsecret_file = \"\"\n", "[agent.relay] secret_file"),
        ("[agent.relay]\nlisten = \"\"\nsecret_file = \"s\"\n", "[agent.relay] listen"),
        ("[agent.relay]\nhome = \"\"\nsecret_file = \"s\"\n", "[agent.relay] home"),
    ] {
        let told = trouble(text);
        assert!(told.starts_with("78 ") && told.contains(&format!("{place} must be")), "{told}");
        assert_eq!(told.lines().count(), 1, "once: {told}");
    }
}

#[test]
fn the_log_has_words_and_no_others() {
    for word in ["off", "error", "warn", "info", "debug", "trace"] {
        let text = format!("[gateway]\nlog = {word:?}\n{DEFAULT}");
        assert_eq!(parse(&text).unwrap().log, word);
    }
    for word in ["loud", "", "7"] {
        let told = trouble(&format!("[gateway]\nlog = {word:?}\n{DEFAULT}"));
        let why = format!(
            "[gateway] log must be one of off, error, warn, info, debug, trace, not {word:?}"
        );
        assert!(told.starts_with("78 ") && told.ends_with(&why), "{told}");
    }
}

#[test]
fn what_comes_out_of_a_pipe_has_absolute_paths() {
    let parse = |text: &str| Config::parse(text, Some(Path::new("/dev/fd/63")), &NoSecrets);
    let config = parse(FEISHU).unwrap();
    let told = config.check().unwrap_err();
    assert_eq!(told.code(), 78);
    let why = "[platform.feishu] app_secret_file must be an absolute path, since the configuration comes \
               out of a pipe, which lies in no directory: not \"s\"";
    assert_eq!(told.to_string(), why);
    assert!(parse("[gateway]\nstate_dir = \"s\"\n").is_err());
    for path in ["/run/s", "~/s"] {
        let text = FEISHU.replace("\"s\"", &format!("{path:?}"));
        parse(&text).unwrap().check().unwrap();
    }
}

#[test]
fn a_descriptor_lies_in_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "").unwrap();
    assert_eq!(System.directory(&path).unwrap(), dir.path());
    let file = std::fs::File::open(&path).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let shown = [format!("/dev/fd/{fd}"), format!("/proc/self/fd/{fd}"), "/dev/stdin".into()];
    for path in shown.iter().map(Path::new).chain([fifo.as_path()]) {
        assert_eq!(System.directory(path), None, "{}", path.display());
    }
}

#[test]
fn mistakes_are_told_with_the_key_and_a_way_out() {
    for (text, told) in [
        (
            "[platfrom.feishu]\n",
            "78 read the configuration /etc/hermes-gw/config.toml: \"platfrom\" is no key; did you mean \"platform\"?",
        ),
        (
            "[gateway]\nstate_dir = 7\n",
            "78 read the configuration /etc/hermes-gw/config.toml: [gateway] state_dir must be a text, not integer",
        ),
        (
            "[platform.Feishu]\n",
            "78 read the configuration /etc/hermes-gw/config.toml: [platform.Feishu]: an instance name has 1 to 32 characters a-z, 0-9, - or _, and starts with a letter or digit",
        ),
        (
            "[platform.feishu]\napp_id = \"a\"\napp_secert_file = \"s\"\n",
            "78 [platform.feishu] app_secret_file or app_secret_env must be set\n[platform.feishu] \"app_secert_file\" is no key; did you mean \"app_secret_file\"?",
        ),
        (
            "[platform.feishu]\napp_id = \"a\"\napp_secret = \"s3cret\"\n",
            "78 [platform.feishu] app_secret_file or app_secret_env must be set\n[platform.feishu] \"app_secret\" is no key; did you mean \"app_secret_file\"?",
        ),
        (
            "[platform.feishu]\napp_id = \"a\"\napp_secret_file = \"missing\"\n",
            "66 [platform.feishu] read the secret in /etc/hermes-gw/missing: not found",
        ),
        (
            "[platform.work]\n",
            "78 [platform.work] kind must be set to one of local, feishu, telegram, exec",
        ),
        (
            "[platform.work]\nkind = \"slack\"\n",
            "78 [platform.work] kind must be one of local, feishu, telegram, exec, not \"slack\"",
        ),
        (
            "[agent.socket]\nconcurrency = 0\n",
            "78 [agent.socket] concurrency must be a whole number from 1 to 1024, not 0",
        ),
        (
            "[platform.echo]\nkind = \"local\"\n[agent.echo]\n",
            "78 read the configuration /etc/hermes-gw/config.toml: [platform.echo] and [agent.echo] have the same name; commands could not tell them apart",
        ),
        (
            "[platform.local]\nagent = \"b\"\n[agent.echo]\n",
            "78 [platform.local] agent: no [agent.b] is configured",
        ),
        (
            "[platform.local]\n[agent.a]\nkind = \"echo\"\n[agent.b]\nkind = \"echo\"\n",
            "78 [platform.local] agent must be set, as there are several: a, b",
        ),
        (
            "[platform.a]\nkind = \"local\"\n[platform.b]\nkind = \"local\"\n[agent.relay]\nsecret_file = \"s\"\n",
            "78 [platform.b] agent: relay hears another local account already, and a Hermes Agent has one of each; give this one an [agent] of its own",
        ),
        (
            "[agent.relay]\nsecret_file = \"s\"\nlisten = \"0.0.0.0:8765\"\n",
            "78 [agent.relay] listen must be a loopback address with a port, like \"127.0.0.1:8765\", not \"0.0.0.0:8765\"",
        ),
        (
            "[agent.exec]\n",
            "78 [agent.exec] command must be set: the program and its arguments, a list of texts",
        ),
        (
            "[platform.exec]\n",
            "78 [platform.exec] command must be set: the program and its arguments, a list of texts",
        ),
        (
            "[platform.exec]\ncommand = [\"x\"]\nsecret = { a_env = \"A\" }\n",
            "78 [platform.exec] \"secret\" is no key; did you mean \"secrets\"?",
        ),
        (
            "[platform.exec]\ncommand = [\"x\"]\nsecrets = { token = \"s\" }\n",
            "78 [platform.exec.secrets] \"token\" must end with _file or _env: a secret stands in a file or in the environment",
        ),
        (
            "[platform.exec]\ncommand = [\"x\"]\nsecrets = { a_file = \"s\", a_env = \"A\" }\n",
            "78 [platform.exec.secrets] a_file and a_env exclude one another",
        ),
        (
            "[platform.hooks]\nkind = \"local\"\n",
            "78 read the configuration /etc/hermes-gw/config.toml: [platform.hooks]: this name is the gateway's own: choose another, and set kind",
        ),
    ] {
        assert_eq!(trouble(text), told, "{text}");
    }
    let pairing = format!("{FEISHU}access = {{ direct = \"pair\" }}\n");
    assert!(
        trouble(&pairing).contains("direct must be one of list, pairing, open, off"),
        "{}",
        trouble(&pairing)
    );
    assert!(trouble("[platform").starts_with("78 read the configuration"));
}

#[test]
fn access_is_closed_unless_it_is_opened() {
    let config = parse(FEISHU).unwrap();
    config.check().unwrap();
    let Ok(instance::Body::Platform { access, .. }) = &config.instances[0].body else { panic!() };
    assert_eq!(*access, crate::policy::access::Access::default());
}

#[test]
fn secrets_never_show() {
    let config = parse(FEISHU).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("from a file") && shown.contains("***"), "{shown}");
}

#[test]
fn paths_are_relative_to_the_file_or_to_home() {
    let dirs = |text: &str| {
        let config = parse(text).unwrap();
        (config.state_dir.unwrap(), config.runtime_dir.unwrap())
    };
    let told = dirs("[gateway]\nstate_dir = \"state\"\nruntime_dir = \"~/run\"\n");
    assert_eq!(told, ("/etc/hermes-gw/state".into(), "/home/ann/run".into()));
}

#[test]
fn a_webhook_of_telegram_is_a_table_of_its_own() {
    let block = "[platform.telegram]\ntoken_file = \"s\"\n[platform.telegram.webhook]\n";
    assert!(trouble(block).contains("[platform.telegram.webhook] url must be set"));
    let webhook = |more: &str| {
        let config = parse(&format!("{block}url = \"https://b.example/t\"\n{more}")).unwrap();
        let body = config.instances.into_iter().next().unwrap().body.map_err(|it| it.reason);
        body.map(|body| match body {
            instance::Body::Platform { settings: PlatformSettings::Telegram(it), .. } => it.webhook,
            other => panic!("{other:?}"),
        })
    };
    let told = webhook("").unwrap().unwrap();
    assert_eq!((told.listen.to_string().as_str(), told.connections), ("127.0.0.1:8443", 40));
    let told = webhook("listen = \"0.0.0.0:443\"\nmax_connections = 100\n").unwrap().unwrap();
    assert_eq!((told.listen.to_string().as_str(), told.connections), ("0.0.0.0:443", 100));
    assert!(webhook("listen = \"8443\"\n").unwrap_err().contains("an address and a port"));
    assert!(webhook("max_connections = 101\n").unwrap_err().contains("from 1 to 100"));
    let odd = block.to_owned() + "url = \"bot.example\"\n";
    assert!(trouble(&odd).contains("url must start with"), "{}", trouble(&odd));
}

#[test]
fn ids_that_are_numbers_need_no_quotes() {
    let block = "[platform.telegram]\ntoken_file = \"s\"\naccess = { users = [7, \"8\"], chats = [-100] }\n";
    let config = parse(block).unwrap();
    let body = config.instances.into_iter().next().unwrap().body.unwrap();
    let instance::Body::Platform { settings, access, .. } = body else { panic!() };
    assert_eq!(access.users.into_iter().collect::<Vec<_>>(), ["7", "8"]);
    assert_eq!(access.chats.into_iter().collect::<Vec<_>>(), ["-100"]);
    let PlatformSettings::Telegram(settings) = settings else { panic!() };
    assert_eq!(settings.base_url, "https://api.telegram.org");
    assert_eq!((settings.webhook, settings.local_files), (None, None));
    assert_eq!(settings.unanswered, protocol::worker::Unanswered::Report);
    assert!(
        trouble(&block.replace("[7, ", "[7.5, "))
            .contains("must be a list of texts or whole numbers")
    );
}

#[test]
fn a_companys_certificates_are_for_all_who_need_certificates() {
    let text = "[gateway]\nproxy = \"http://p:1\"\nca_file = \"ca\"\n[agent.echo]\n\
        [agent.far]\nkind = \"webhook\"\nurl = \"https://h/\"\nsecret_env = \"S\"\n\
        [agent.near]\nkind = \"webhook\"\nurl = \"http://h/\"\nsecret_env = \"S\"\n\
        [agent.model]\nkind = \"openai\"\nbase_url = \"https://h/v1\"\nmodel = \"m\"\n";
    let config = Config::parse(text, None, &Found).unwrap();
    let mut trusting = Vec::new();
    for spec in &config.instances {
        let Ok(instance::Body::Agent { network, .. }) = &spec.body else { panic!("{spec:?}") };
        assert!(network.proxy.is_none(), "a proxy is for platforms");
        trusting.extend((!network.ca.is_empty()).then_some(spec.name.as_str()));
    }
    assert_eq!(trusting, ["far", "model"]);
}

#[test]
fn certificates_that_are_missing_are_called_so() {
    let text = "[gateway]\nca_file = \"/nowhere/ca.pem\"\n[agent.echo]\n";
    let wrong = Config::parse(text, None, &System).unwrap_err();
    let told = wrong.to_string();
    assert_eq!(wrong.code(), 66, "{told}");
    assert!(told.contains("read the certificates in /nowhere/ca.pem: "), "{told}");
}

#[test]
fn an_id_that_nobody_can_have_is_told() {
    let told = |block: &str| {
        let text = format!(
            "{block}access = {{ users = [\"7\", \"ou_a\", \"@ann\", \"007\"], chats = [-100, 100, \"oc_b\"] }}\n"
        );
        parse(&text).unwrap().warnings
    };
    let warnings = told("[platform.telegram]\ntoken_file = \"s\"\n");
    let named = |words: &str| warnings.iter().any(|it| it.contains(words));
    assert!(
        named("\"@ann\" is no user there") && named("\"007\"") && named("\"ou_a\""),
        "{warnings:?}"
    );
    assert!(named("\"100\" is no group there") && named("look like -1001234567"), "{warnings:?}");
    assert_eq!(warnings.len(), 5, "{warnings:?}");
    let warnings = told("[platform.feishu]\napp_id = \"cli_1\"\napp_secret_env = \"S\"\n");
    assert_eq!(warnings.len(), 5, "{warnings:?}");
}

#[test]
fn a_proxy_is_everybodys_unless_a_platform_has_its_own() {
    let text = "[gateway]\nproxy = \"http://p:1\"\n[agent.echo]\n\
        [platform.feishu]\napp_id = \"cli_1\"\napp_secret_env = \"S\"\n\
        [platform.other]\nkind = \"feishu\"\napp_id = \"cli_2\"\napp_secret_env = \"S\"\nproxy = \"none\"\n\
        [platform.third]\nkind = \"feishu\"\napp_id = \"cli_3\"\napp_secret_env = \"S\"\nproxy_env = \"P\"\nca_file = \"ca\"\n";
    let config = Config::parse(text, None, &Found).unwrap();
    let network = |name: &str| {
        let spec = config.instances.iter().find(|spec| spec.name.as_str() == name).unwrap();
        let Ok(instance::Body::Platform { network, .. }) = &spec.body else { panic!("{spec:?}") };
        (network.proxy.as_ref().map(|it| it.expose().to_owned()), network.ca.is_empty())
    };
    assert_eq!(network("feishu"), (Some("http://p:1".to_owned()), true));
    assert_eq!(network("other"), (None, true));
    assert_eq!(network("third"), (Some("socks5://u:w@p:2".to_owned()), false));
    for wrong in
        ["http://u:w@p:1", "ftp://p", "p:1", "http://", "socks5:// ", "http://:1", "http:///x"]
    {
        let text = format!("[gateway]\nproxy = \"{wrong}\"\n");
        let told = Config::parse(&text, None, &Found).unwrap_err().to_string();
        assert!(told.contains("proxy") && !told.contains(":w@"), "{told}");
    }
}

struct Found;

impl Surroundings for Found {
    fn file(&self, _: &str, _: &Path) -> Result<String, String> {
        Ok("-----BEGIN CERTIFICATE-----".into())
    }

    fn variable(&self, name: &str) -> Result<Secret, String> {
        Ok(Secret::new(if name == "P" { "socks5://u:w@p:2" } else { "secret" }))
    }

    fn directory(&self, config: &Path) -> Option<PathBuf> {
        NoSecrets.directory(config)
    }
    fn home(&self) -> Option<PathBuf> {
        None
    }

    fn credentials(&self) -> Option<PathBuf> {
        None
    }
}

#[test]
fn routes_and_commands_are_checked_as_a_whole() {
    const TWO: &str =
        "[platform.local]\nagent = \"a\"\n[agent.a]\nkind = \"echo\"\n[agent.b]\nkind = \"echo\"\n";
    let with = |more: &str| trouble(&format!("{more}\n{TWO}"));
    assert_eq!(with("[[route]]\nplatform = \"local\"\nuser = 7\nagent = \"b\""), "ok");
    for (more, told) in [
        ("[[route]]\nchat = \"c\"", "agent must be set"),
        ("[[route]]\nagent = \"b\"", "one of platform, chat and user must be set"),
        ("[[route]]\nchat = \"c\"\nagent = \"c\"", "[[route]] agent: no [agent.c]"),
        ("[[route]]\nplatform = \"x\"\nagent = \"b\"", "[[route]] platform: no [platform.x]"),
        ("[[route]]\nchat = true\nagent = \"b\"", "chat must be a text or a number"),
        ("[commands]\nnew = [\"/stop\"]", "a word may stand for one command only"),
        ("[commands]\nstop = [\" \"]", "a command must not be empty"),
        ("[commands]\nhalt = [\"x\"]", "\"halt\" is no key"),
    ] {
        let found = with(more);
        assert!(found.starts_with("78 ") && found.contains(told), "{more}: {found}");
    }
    let whole = "[[route]]\nplatform = \"local\"\nagent = \"b\"\n[platform.local]\n[agent.a]\nkind = \"echo\"\n[agent.b]\nkind = \"echo\"\n";
    assert_eq!(trouble(whole), "ok", "one route for all leaves nothing to say");
    let busy =
        "[platform.local]\n[platform.local.busy]\nmode = \"que\"\n[agent.a]\nkind = \"echo\"\n";
    assert!(trouble(busy).contains("mode must be one of queue, interrupt, steer"));
}

/// Whoever writes the secret where the name of a variable belongs does not find it in a log.
#[test]
fn what_may_be_a_secret_is_not_told() {
    let told = |name| System.variable(name).unwrap_err();
    assert!(told("HERMES_GW_NOT_SET").contains("environment variable HERMES_GW_NOT_SET:"));
    for secret in ["tJx8nPVnkaWw3uMGl4AWpgBNnX1SvXcZ", "77:AAH_x", "", &"A".repeat(65)] {
        assert!(secret.is_empty() || !told(secret).contains(secret), "{}", told(secret));
    }
}

/// Editors and shells put something around it, and no platform knows a secret with that.
#[test]
fn what_stands_around_a_secret_is_no_part_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    for text in ["7:abc", "7:abc\r\n", "\n 7:abc", "\u{feff}7:abc\n\n", "\t7:abc \n"] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(System.file("it", &path).unwrap(), "7:abc", "{text:?}");
    }
    for nothing in ["", " \n", "\u{feff}\n"] {
        std::fs::write(&path, nothing).unwrap();
        assert!(System.file("it", &path).unwrap_err().ends_with("it is empty"), "{nothing:?}");
    }
    let config = format!("[platform.telegram]\ntoken_file = {path:?}\n");
    for odd in ["7:abc\n7:def\n", "# mine\n7:abc", "7:\u{7f}abc"] {
        std::fs::write(&path, odd).unwrap();
        let config = Config::parse(&config, None, &System).unwrap();
        let told = config.check().unwrap_err().to_string();
        assert!(told.contains("a secret is one line") && !told.contains("abc"), "{told}");
    }
}
