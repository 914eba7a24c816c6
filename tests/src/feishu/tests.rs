//! The platform's own rules, tried by a small client that does only what a test tells it.

mod api;
mod events;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message as WsMessage};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::frame::{DATA, Frame, decode};
use super::{
    Ending, Entry, Fault, Feishu, Message, Observation, Push, Route, Rule, Schedule, Scope, Times,
    Trouble, chat_entered,
};

const APP: &str = "cli_a";
const SOON: Duration = Duration::from_secs(10);

async fn platform() -> Feishu {
    let feishu = Feishu::start().await;
    feishu.add_app(APP, "secret", "ou_bot");
    feishu
}

async fn call(
    feishu: &Feishu,
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> hyper::Result<Response<Bytes>> {
    let stream = TcpStream::connect(feishu.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", feishu.addr().to_string())
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

async fn post(feishu: &Feishu, path: &str, token: &str, body: &Value) -> Value {
    let response = call(feishu, "POST", path, token, body).await.unwrap();
    serde_json::from_slice(response.body()).unwrap()
}

async fn token(feishu: &Feishu) -> String {
    let path = "/open-apis/auth/v3/tenant_access_token/internal";
    let answer = post(feishu, path, "", &json!({"app_id": APP, "app_secret": "secret"})).await;
    answer["tenant_access_token"].as_str().unwrap().to_owned()
}

async fn send(feishu: &Feishu, token: &str, uuid: &str, text: &str) -> Value {
    let content = json!({"text": text}).to_string();
    let body = json!({"receive_id": "oc_1", "msg_type": "text", "content": content, "uuid": uuid});
    post(feishu, "/open-apis/im/v1/messages?receive_id_type=chat_id", token, &body).await
}

async fn discover(feishu: &Feishu) -> Value {
    let body = json!({"AppID": APP, "AppSecret": "secret"});
    post(feishu, "/callback/ws/endpoint", "", &body).await
}

struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    async fn connect(feishu: &Feishu) -> Self {
        let opened = |entry: &Entry| matches!(entry.what, Observation::Opened { .. });
        let before = feishu.count(opened);
        let client = Self::try_connect(feishu).await.unwrap();
        feishu.wait_count("the connection", SOON, before + 1, opened).await;
        client
    }

    async fn try_connect(feishu: &Feishu) -> Result<Self, tungstenite::Error> {
        let answer = discover(feishu).await;
        let (stream, _) = connect_async(answer["data"]["URL"].as_str().unwrap()).await?;
        Ok(Self { stream })
    }

    async fn next(&mut self) -> Frame {
        loop {
            let message = tokio::time::timeout(SOON, self.stream.next()).await.unwrap();
            if let WsMessage::Binary(bytes) = message.unwrap().unwrap() {
                return decode(&bytes).unwrap();
            }
        }
    }

    async fn answer(&mut self, frame: Frame, code: i64) {
        let payload = Some(json!({"code": code}).to_string().into_bytes());
        let frame = Frame { payload, ..frame }.with("biz_rt", "1");
        self.stream.send(WsMessage::Binary(frame.encode().into())).await.unwrap();
    }
}

fn rules(feishu: &Feishu) -> Vec<Rule> {
    feishu.violations().iter().map(|violation| violation.rule).collect()
}
