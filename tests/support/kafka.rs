//! A real Kafka broker of one node, on free ports of loopback, and the requests that fill it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use hpalite::formats::kafka::{Api, Body, FIND_COORDINATOR, find_coordinator};
use tempfile::TempDir;

use super::cluster::{free_port, wait_seeing};
use super::servers::{Program, certificate, start};

pub(crate) const USER: &str = "keda";
pub(crate) const PASSWORD: &str = "sesame/7";

/// Messages in partition 0 of each topic.
pub(crate) const MESSAGES: i64 = 100;

pub(crate) struct Kafka {
    _program: Program,
    folder: TempDir,
    /// Without encryption and credentials.
    pub(crate) plain: u16,
    /// Over TLS, with a password of user [`USER`] by PLAIN or SCRAM.
    pub(crate) password: u16,
    /// Over TLS, with the certificate of [`Kafka::ca`] as that of the client.
    pub(crate) mutual: u16,
    /// With any token that names somebody.
    pub(crate) token: u16,
    pub(crate) ca: String,
}

impl Kafka {
    /// Has topics `jobs` and `mail` with four partitions each, and the offsets of no group.
    pub(crate) fn start() -> Self {
        let jars = jars();
        let folder = tempfile::tempdir().unwrap();
        let [plain, password, mutual, token, controller] = [(); 5].map(|()| free_port());
        let ca = certificate(folder.path());
        let at = |name: &str| folder.path().join(name);
        let both = format!("{}{ca}", fs::read_to_string(at("key.pem")).unwrap());
        fs::write(at("both.pem"), both).unwrap();
        let module = "org.apache.kafka.common.security";
        let listeners = format!(
            "PLAIN://127.0.0.1:{plain},PASSWORD://localhost:{password},MUTUAL://localhost:{mutual},TOKEN://127.0.0.1:{token}"
        );
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners={listeners},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners={listeners}\n\
             listener.security.protocol.map=PLAIN:PLAINTEXT,PASSWORD:SASL_SSL,MUTUAL:SSL,TOKEN:SASL_PLAINTEXT,\
             CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAIN\ncontroller.listener.names=CONTROLLER\nlog.dirs={logs}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\nauto.create.topics.enable=true\n\
             listener.name.password.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.password.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
             listener.name.password.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.password.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER\n\
             listener.name.token.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"broker\";\n\
             ssl.keystore.type=PEM\nssl.keystore.location={both}\nssl.truststore.type=PEM\nssl.truststore.location={cert}\n\
             listener.name.mutual.ssl.client.auth=required\n",
            logs = at("logs").display(),
            both = at("both.pem").display(),
            cert = at("cert.pem").display(),
        );
        fs::write(at("broker.properties"), properties).unwrap();
        let java = |class: &str| {
            let mut command = Command::new("java");
            command.args(["-Xmx256m", "-cp", &format!("{jars}/*"), class]).current_dir(folder.path());
            command
        };
        let mut format = java("kafka.tools.StorageTool");
        format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", "broker.properties"]);
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            format.args(["--add-scram", &format!("{mechanism}=[name={USER},password={PASSWORD}]")]);
        }
        let output = format.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let program = start(java("kafka.Kafka").arg("broker.properties"));
        let kafka = Self { _program: program, folder, plain, password, mutual, token, ca };
        wait_seeing("Kafka", || kafka.try_ask(api(18, 0), Body::default()).map(drop));
        // Asking for a coordinator makes the topic in which it keeps the offsets.
        wait_seeing("a coordinator", || {
            let answer = kafka.try_ask(FIND_COORDINATOR, find_coordinator("shop"))?;
            if answer[4..6] == [0, 0] { Ok(()) } else { Err(format!("{answer:?}")) }
        });
        for topic in ["jobs", "mail"] {
            kafka.create(topic);
            kafka.produce(topic);
        }
        kafka
    }

    /// The client's certificate and its key.
    pub(crate) fn client(&self) -> (String, String) {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap();
        (read("cert.pem"), read("key.pem"))
    }

    fn create(&self, topic: &str) {
        let body = Body::default().length(1).text(topic).number(&4_i32.to_be_bytes()).number(&1_i16.to_be_bytes());
        let body = body.length(0).length(0).number(&10_000_i32.to_be_bytes()).number(&[0]);
        wait_seeing(topic, || {
            let answer = self.try_ask(api(19, 2), body.clone())?;
            // Throttling, one topic with its name, and the code.
            let code = &answer[8 + 2 + topic.len()..][..2];
            // It exists already if an answer came too late.
            if [[0, 0], [0, 36]].iter().any(|done| done == code) { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// Puts [`MESSAGES`] into partition 0.
    fn produce(&self, topic: &str) {
        let records: Vec<u8> = (0..MESSAGES).flat_map(|offset| record(u8::try_from(offset).unwrap())).collect();
        let count = i32::try_from(MESSAGES).unwrap();
        // Attributes, last offset, two times, producer, epoch, sequence and count.
        let mut checked = 0_i16.to_be_bytes().to_vec();
        checked.extend((count - 1).to_be_bytes());
        [1_000_i64, 1_000, -1].iter().for_each(|number| checked.extend(number.to_be_bytes()));
        checked.extend((-1_i16).to_be_bytes());
        [-1, count].iter().for_each(|number: &i32| checked.extend(number.to_be_bytes()));
        checked.extend(records);
        let mut batch = (-1_i32).to_be_bytes().to_vec();
        batch.push(2);
        batch.extend(crc32c(&checked).to_be_bytes());
        batch.extend(checked);
        let length = i32::try_from(batch.len()).unwrap().to_be_bytes();
        let batch = [&0_i64.to_be_bytes(), length.as_slice(), &batch].concat();
        let body = Body::default().number(&(-1_i16).to_be_bytes()).number(&(-1_i16).to_be_bytes());
        let body = body.number(&10_000_i32.to_be_bytes()).length(1).text(topic).length(1).length(0).bytes(&batch);
        wait_seeing("messages", || {
            let answer = self.try_ask(api(0, 3), body.clone())?;
            let code = &answer[4 + 2 + topic.len() + 4 + 4..][..2];
            if code == [0, 0] { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// Lets a group have read all of a topic but these last messages of partition 0.
    pub(crate) fn leave(&self, group: &str, topic: &str, lag: i64) {
        self.commit(group, topic, &[(0, MESSAGES - lag), (1, 0), (2, 0), (3, 0)]);
    }

    /// Commits offsets of partitions.
    pub(crate) fn commit(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let body = Body::default().text(group).number(&(-1_i32).to_be_bytes()).text("").number(&(-1_i64).to_be_bytes());
        let mut body = body.length(1).text(topic).length(offsets.len());
        for (partition, offset) in offsets {
            body = body.number(&partition.to_be_bytes()).number(&offset.to_be_bytes()).text("");
        }
        wait_seeing("committed offsets", || {
            let answer = self.try_ask(api(8, 2), body.clone())?;
            // Each partition has a number and a code.
            let codes = answer[4 + 2 + topic.len() + 4..].chunks(6).map(|partition| &partition[4..]);
            if codes.clone().all(|code| code == [0, 0]) { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }

    /// Sends a request, and returns its answer without its head.
    fn try_ask(&self, api: Api, body: Body) -> Result<Vec<u8>, String> {
        let ask = || {
            let mut socket = TcpStream::connect(("127.0.0.1", self.plain))?;
            socket.write_all(&body.request(api, 1))?;
            let mut length = [0; 4];
            socket.read_exact(&mut length)?;
            let mut answer = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
            socket.read_exact(&mut answer)?;
            Ok(answer.split_off(4))
        };
        ask().map_err(|error: std::io::Error| error.to_string())
    }
}

const fn api(key: i16, version: i16) -> Api {
    Api { key, version, name: "" }
}

/// A message without a key; all numbers are of variable length, with the sign in the lowest bit.
fn record(offset: u8) -> Vec<u8> {
    let number = |number: u8| if number < 64 { vec![number << 1] } else { vec![number << 1 | 0x80, number >> 6] };
    let mut inner = vec![0, 0];
    inner.extend(number(offset));
    // No key, one byte, no headers.
    inner.extend([1, 2, b'x', 0]);
    [number(u8::try_from(inner.len()).unwrap()), inner].concat()
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

/// The folder with the broker's jars, which are fetched if it is not there.
fn jars() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/kafka/jars");
    let output = Command::new(&script).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "no Kafka to test with: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
