//! A raw client of the JSON 1.1 protocol over one kept-alive TCP connection, blocking, without retries: what comes back is what was sent.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// HTTP status; 0 where no whole answer came.
    pub(crate) status: u16,
    /// The error's type (`ThrottlingException`), or `transport`.
    pub(crate) kind: String,
    /// The service's sentence.
    pub(crate) message: String,
}

/// An HTTP answer.
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Headers, their names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    /// All of the body.
    pub(crate) body: Vec<u8>,
}

/// A client of one endpoint. Its calls go one after another; use several for calls side by side.
pub(crate) struct Client {
    address: String,
    connection: Mutex<Option<BufReader<TcpStream>>>,
    timeout: Duration,
    headers: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// A client of `http://HOST:PORT`; connects at the first call.
    pub(crate) fn new(url: &str) -> Client {
        let address = url.trim_start_matches("http://").trim_end_matches('/').into();
        Client { address, connection: Mutex::new(None), timeout: Duration::from_secs(30), headers: String::new() }
    }

    /// With another timeout than 30 s for each read of the socket.
    pub(crate) fn with_timeout(self, timeout: Duration) -> Client {
        Client { timeout, ..self }
    }

    /// With one header more in each request.
    pub(crate) fn with_header(self, name: &str, value: &str) -> Client {
        Client { headers: format!("{}{name}: {value}\r\n", self.headers), ..self }
    }

    /// One call.
    pub(crate) fn call(&self, name: &str, arguments: Value) -> Result<Value, Failed> {
        let target = format!("Logs_20140328.{name}");
        let answer = self
            .request("POST", "/", Some(&target), arguments.to_string().as_bytes())
            .map_err(|error| Failed { status: 0, kind: "transport".into(), message: error.to_string() })?;
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if answer.status == 200 {
            return Ok(value);
        }
        let kind = value["__type"].as_str().unwrap_or("").rsplit('#').next().unwrap_or("").into();
        let message = value["message"].as_str().or(value["Message"].as_str()).unwrap_or("").into();
        Err(Failed { status: answer.status, kind, message })
    }

    /// A request to the fake's control endpoints; panics unless it succeeds.
    pub(crate) fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.request(method, &format!("/_control/{path}"), None, &body).expect("the fake answers");
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    }

    /// One HTTP request. A connection that fails is given up, and the next request makes a new one.
    pub(crate) fn request(&self, method: &str, path: &str, target: Option<&str>, body: &[u8]) -> Result<Answer, Error> {
        let mut slot = self.connection.lock().unwrap();
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(self.timeout))?;
                BufReader::with_capacity(256 << 10, stream)
            }
        };
        let target = target.map(|target| format!("x-amz-target: {target}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/logs/aws4_request, SignedHeaders=host, \
             Signature=0\r\n{target}{}\r\n",
            self.address,
            body.len(),
            self.headers
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        connection.get_mut().write_all(&request)?;
        let (answer, keep) = read_answer(&mut connection)?;
        if keep {
            *slot = Some(connection);
        }
        Ok(answer)
    }

    /// Makes a group and a stream, either of which may be there already.
    pub(crate) fn create(&self, group: &str, stream: &str) {
        let there = |result: Result<Value, Failed>| match result {
            Err(failed) if failed.kind != "ResourceAlreadyExistsException" => panic!("{failed:?}"),
            _ => {}
        };
        there(self.call("CreateLogGroup", json!({ "logGroupName": group })));
        there(self.call("CreateLogStream", json!({ "logGroupName": group, "logStreamName": stream })));
    }

    /// Puts (timestamp in ms, message) events as one batch.
    pub(crate) fn put(&self, group: &str, stream: &str, events: &[(i64, &str)]) -> Result<Value, Failed> {
        let events: Vec<Value> = events.iter().map(|(at, text)| json!({ "timestamp": at, "message": text })).collect();
        let arguments = json!({ "logGroupName": group, "logStreamName": stream, "logEvents": events });
        self.call("PutLogEvents", arguments)
    }
}

fn read_answer(from: &mut BufReader<TcpStream>) -> Result<(Answer, bool), Error> {
    let cut = || Error::new(ErrorKind::UnexpectedEof, "the connection ended within an answer");
    let line = |from: &mut BufReader<TcpStream>| -> Result<String, Error> {
        let mut text = String::new();
        if from.read_line(&mut text)? == 0 || !text.ends_with('\n') {
            return Err(cut());
        }
        Ok(text.trim_end().into())
    };
    let first = line(from)?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| Error::new(ErrorKind::InvalidData, first.clone()))?;
    let mut keep = first.starts_with("HTTP/1.1");
    let (mut length, mut chunked) = (None, false);
    let mut headers = Vec::new();
    loop {
        let header = line(from)?;
        let Some((name, value)) = header.split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        match (name.as_str(), value.to_ascii_lowercase().as_str()) {
            ("content-length", value) => length = value.parse().ok(),
            ("transfer-encoding", "chunked") => chunked = true,
            ("connection", "close") => keep = false,
            _ => {}
        }
        headers.push((name, value));
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = usize::from_str_radix(&line(from)?, 16).map_err(|_| cut())?;
            let start = body.len();
            body.resize(start + size, 0);
            from.read_exact(&mut body[start..])?;
            line(from)?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        body.resize(length, 0);
        from.read_exact(&mut body)?;
    } else {
        from.read_to_end(&mut body)?;
        keep = false;
    }
    Ok((Answer { status, headers, body }, keep))
}
