//! Real queues and databases from Debian's packages, each for one test, on free ports of loopback.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{free_port, wait_seeing};

/// The password that all of them want.
pub(crate) const PASSWORD: &str = "sesame / 7'\\";

/// A program that ends with the test.
pub(super) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn start(command: &mut Command) -> Program {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Program(quiet.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}, which tests/setup installs")))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until the port takes connections.
fn reachable(port: u16) -> TcpStream {
    wait_seeing(&format!("port {port}"), || TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string()))
}

/// Writes a certificate for loopback, and its key, and returns the former.
pub(super) fn certificate(folder: &Path) -> String {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let pair = rcgen::generate_simple_self_signed(names).unwrap();
    let key = folder.join("key.pem");
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    // PostgreSQL wants its key to be secret.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.join("cert.pem"), pair.cert.pem()).unwrap();
    pair.cert.pem()
}

/// Speaks TLS alone.
pub(crate) struct Redis {
    _program: Program,
    _folder: TempDir,
    pub(crate) port: u16,
    pub(crate) ca: String,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = folder.path().join("redis.conf");
        let quoted = PASSWORD.replace('\\', "\\\\");
        let ca = certificate(folder.path());
        let text = format!(
            "bind 127.0.0.1\nport 0\ntls-port {port}\ntls-cert-file cert.pem\ntls-key-file key.pem\ntls-ca-cert-file cert.pem\n\
             tls-auth-clients no\nsave \"\"\nrequirepass \"{quoted}\"\n"
        );
        fs::write(&config, text).unwrap();
        let program = start(Command::new("redis-server").arg(&config).current_dir(folder.path()));
        reachable(port);
        Self { _program: program, _folder: folder, port, ca }
    }

    /// Runs a command in database 3.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let mut command = Command::new("redis-cli");
        command
            .args(["--tls", "--insecure", "-p", &port, "-n", "3", "--no-auth-warning"])
            .env("REDISCLI_AUTH", PASSWORD)
            .args(words);
        run(&mut command)
    }
}

/// A Redis of another role, without encryption.
pub(crate) struct PlainRedis {
    _program: Program,
    _folder: TempDir,
    pub(crate) port: u16,
}

impl PlainRedis {
    fn start(config: &str, arguments: &[&str]) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("redis.conf");
        fs::write(&file, format!("bind 127.0.0.1\nport {port}\nsave \"\"\n{config}")).unwrap();
        let program = start(Command::new("redis-server").arg(&file).args(arguments).current_dir(folder.path()));
        reachable(port);
        Self { _program: program, _folder: folder, port }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The parts of a cluster, each of which has half of the slots.
    pub(crate) fn cluster() -> [Self; 2] {
        let node = || Self::start(&format!("cluster-enabled yes\ncluster-port {}\n", free_port()), &[]);
        let [first, second] = [node(), node()];
        first.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
        second.run(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
        let bus = second.run(&["CONFIG", "GET", "cluster-port"]);
        let bus = bus.lines().last().unwrap();
        first.run(&["CLUSTER", "MEET", "127.0.0.1", &second.port.to_string(), bus]);
        for node in [&first, &second] {
            wait_seeing("a cluster", || {
                let info = node.run(&["CLUSTER", "INFO"]);
                if info.contains("cluster_state:ok") { Ok(()) } else { Err(info) }
            });
        }
        [first, second]
    }

    /// A sentinel and the master `main`, each with a password of its own.
    pub(crate) fn sentinel() -> [Self; 2] {
        let master = Self::start("requirepass master\n", &[]);
        let monitor = format!("sentinel monitor main 127.0.0.1 {} 1\nsentinel auth-pass main master\n", master.port);
        [Self::start(&format!("{monitor}requirepass sentinel\n"), &["--sentinel"]), master]
    }

    pub(crate) fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let port = self.port.to_string();
        run(command.args(["-p", &port, "--no-auth-warning"]).env("REDISCLI_AUTH", "master").args(words))
    }
}

pub(crate) struct Nats {
    _program: Program,
    _folder: TempDir,
    port: u16,
    pub(crate) monitoring: u16,
}

impl Nats {
    /// Has a stream `orders` with a consumer `pull`.
    pub(crate) fn start() -> Self {
        let (folder, port, monitoring) = (tempfile::tempdir().unwrap(), free_port(), free_port());
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-m", &monitoring.to_string(), "-js", "-sd"]);
        let program = start(command.arg(folder.path()));
        reachable(monitoring);
        let nats = Self { _program: program, _folder: folder, port, monitoring };
        nats.ask("$JS.API.STREAM.CREATE.orders", json!({ "name": "orders", "subjects": ["orders.*"] }));
        let consumer = json!({ "durable_name": "pull", "ack_policy": "explicit" });
        let consumer = json!({ "stream_name": "orders", "config": consumer });
        nats.ask("$JS.API.CONSUMER.DURABLE.CREATE.orders.pull", consumer);
        nats
    }

    pub(crate) fn publish(&self, count: usize) {
        for _ in 0..count {
            self.ask("orders.new", json!({}));
        }
    }

    pub(crate) fn purge(&self) {
        self.ask("$JS.API.STREAM.PURGE.orders", json!({}));
    }

    /// Sends a request by NATS' text protocol, and checks its answer.
    fn ask(&self, subject: &str, body: Value) {
        let mut socket = reachable(self.port);
        let body = body.to_string();
        let text =
            format!("CONNECT {{\"verbose\":false}}\r\nSUB inbox 1\r\nPUB {subject} inbox {}\r\n{body}\r\n", body.len());
        socket.write_all(text.as_bytes()).unwrap();
        let answer = BufReader::new(socket).lines().map(Result::unwrap).find(|line| line.starts_with('{')).unwrap();
        assert!(!answer.contains("\"error\""), "{answer}");
    }
}

pub(crate) struct RabbitMq {
    _program: Program,
    /// Knows the node's port. RabbitMQ would start one that outlives it.
    _epmd: Program,
    folder: TempDir,
    pub(crate) management: u16,
    pub(crate) amqp: u16,
}

impl RabbitMq {
    /// Starts, and goes on before it serves, since it takes some seconds. User `guest` has a password of its own.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [management, amqp, epmd] = [free_port(), free_port(), free_port()];
        let at = |name: &str| folder.path().join(name);
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\nmanagement.tcp.port = {management}\nmanagement.tcp.ip = 127.0.0.1\n\
             collect_statistics_interval = 1000\n"
        );
        fs::write(at("rabbitmq.conf"), config).unwrap();
        fs::write(at("plugins"), "[rabbitmq_management].").unwrap();
        let epmd_port = epmd.to_string();
        let epmd = start(Command::new("epmd").args(["-address", "127.0.0.1", "-port", &epmd_port]));
        reachable(epmd_port.parse().unwrap());
        // The package's own script would change to another user.
        let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        command.env("HOME", folder.path()).env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", &epmd_port);
        command.env("RABBITMQ_NODENAME", "test@localhost").env("RABBITMQ_DIST_PORT", free_port().to_string());
        for (name, file) in [
            ("CONFIG_FILE", "rabbitmq"),
            ("ENABLED_PLUGINS_FILE", "plugins"),
            ("MNESIA_BASE", "mnesia"),
            ("LOG_BASE", "log"),
            ("PID_FILE", "pid"),
        ] {
            command.env(format!("RABBITMQ_{name}"), at(file));
        }
        let program = start(&mut command);
        Self { _program: program, _epmd: epmd, folder, management, amqp }
    }

    /// Sends a request to the management API, waiting until it serves.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) {
        let url = format!("http://127.0.0.1:{}/api{path}", self.management);
        wait_seeing(&format!("{method} {url}"), || {
            let mut command = Command::new("curl");
            command.args(["-sSf", "--noproxy", "*", "-u", "guest:guest", "-H", "content-type: application/json"]);
            let output = command.args(["-X", method, "-d", &body.to_string(), &url]).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        });
    }

    pub(crate) fn publish(&self, count: usize) {
        for _ in 0..count {
            let message =
                json!({ "properties": {}, "routing_key": "orders", "payload": "x", "payload_encoding": "string" });
            self.call("POST", "/exchanges/%2F/amq.default/publish", &message);
        }
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        // The script's child.
        if let Ok(pid) = fs::read_to_string(self.folder.path().join("pid")) {
            let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
        }
    }
}

pub(crate) struct Postgres {
    _program: Program,
    folder: TempDir,
    pub(crate) port: u16,
    pub(crate) ca: String,
}

impl Postgres {
    /// Has a table `jobs` and users `keda` and `old` who may read it; it signs in the former by SCRAM, the latter by MD5.
    pub(crate) fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        fs::write(&password, "admin\n").unwrap();
        let ca = certificate(folder.path());
        let is_root = run(Command::new("id").arg("-u")).trim() == "0";
        if is_root {
            run(Command::new("chown").args(["-R", "postgres"]).arg(folder.path()));
        }
        // PostgreSQL does not run as root.
        let command = |name: &str| {
            let path =
                fs::read_dir("/usr/lib/postgresql").unwrap().next().unwrap().unwrap().path().join("bin").join(name);
            let mut command = Command::new(if is_root { Path::new("runuser") } else { &path });
            if is_root {
                command.args(["-u", "postgres", "--"]).arg(&path);
            }
            command.current_dir(folder.path());
            command
        };
        let mut initdb = command("initdb");
        initdb.args(["-U", "admin", "--auth=md5", "--no-sync"]).arg("--pwfile").arg(&password);
        run(initdb.arg("-D").arg(&data));
        let mut postgres = command("postgres");
        postgres.args(["-F", "-h", "127.0.0.1", "-p", &port.to_string(), "-k"]).arg(folder.path()).arg("-D").arg(&data);
        for (name, value) in [("ssl", "on"), ("ssl_cert_file", "../cert.pem"), ("ssl_key_file", "../key.pem")] {
            postgres.args(["-c", &format!("{name}={value}")]);
        }
        let program = start(&mut postgres);
        let postgres = Self { _program: program, folder, port, ca };
        let user = format!("CREATE USER keda PASSWORD '{}'", PASSWORD.replace('\'', "''"));
        wait_seeing("PostgreSQL", || postgres.try_run("SELECT 1"));
        let old = format!("SET password_encryption = 'md5'; {}", user.replace("keda", "old"));
        postgres.run(&format!("CREATE TABLE jobs (id integer); {user}; {old}; GRANT SELECT ON jobs TO keda, old"));
        postgres
    }

    pub(crate) fn run(&self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn try_run(&self, sql: &str) -> Result<(), String> {
        let url = format!("postgresql://admin:admin@127.0.0.1:{}/postgres", self.port);
        let output = Command::new("psql").args([&url, "-qc", sql]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The first line of the file is the process, which is a child of runuser.
        if let Ok(text) = fs::read_to_string(self.folder.path().join("data/postmaster.pid"))
            && let Some(pid) = text.lines().next()
        {
            let _ = Command::new("kill").args(["-QUIT", pid]).status();
        }
    }
}
