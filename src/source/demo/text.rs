//! What the demo's events say: each line a pure function of the stream's seed, the event's number and its time.

use super::schedule::mix;
use crate::model::Timestamp;

/// What kind of program writes a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// A function's invocations, five lines each; the messages end in a newline, as Lambda's do.
    Lambda,
    /// A Java service, with a stack trace now and then.
    Java,
    /// nginx's combined log format.
    Nginx,
    /// One JSON object a line.
    Json,
    /// A batch job's progress.
    Batch,
    /// An audit trail: long `key=value` lines.
    Audit,
}

impl Writer {
    /// Lines that belong together.
    pub(crate) fn lines(self) -> u64 {
        if self == Writer::Lambda { 5 } else { 1 }
    }

    /// Event `k` of the stream of `seed`, stamped `at`.
    pub(crate) fn message(self, seed: u64, k: u64, at: Timestamp) -> String {
        match self {
            Writer::Lambda => lambda(seed, k / 5, k % 5, at),
            Writer::Java => java(seed, k, at),
            Writer::Nginx => nginx(seed, k, at),
            Writer::Json => json(seed, k, at),
            Writer::Batch => batch(seed, k),
            Writer::Audit => audit(seed, k, at),
        }
    }
}

const ITEMS: [&str; 8] =
    ["teapot", "lamp", "notebook", "bicycle bell", "café crème set", "jumper (größe M)", "抹茶 tin", "screwdriver"];
const PATHS: [&str; 8] = [
    "/",
    "/products/42",
    "/cart",
    "/checkout",
    "/api/orders?page=2",
    "/static/app.css",
    "/login",
    "/search?q=tea%20pot",
];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "curl/8.14.1",
    "kube-probe/1.33",
];

fn pick<'a>(from: &[&'a str], random: u64) -> &'a str {
    from[(random % from.len() as u64) as usize]
}

/// A random version 4 UUID.
fn uuid(random: u64) -> String {
    let (a, b) = (mix(random, 1), mix(random, 2));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}

fn lambda(seed: u64, invocation: u64, line: u64, at: Timestamp) -> String {
    let random = mix(seed, invocation);
    let id = uuid(random);
    let order = 10_000 + random % 90_000;
    let cents = 199 + mix(random, 3) % 20_000;
    match line {
        0 => format!("START RequestId: {id} Version: $LATEST\n"),
        1 => format!(
            "{at}\t{id}\tINFO\tchecking out order {order}: {} × {}\n",
            1 + random % 3,
            pick(&ITEMS, mix(random, 4))
        ),
        2 if random.is_multiple_of(29) => format!(
            "{at}\t{id}\tERROR\tInvoke Error\t{{\"errorType\":\"PaymentDeclined\",\"errorMessage\":\"card was declined for order {order}\",\
             \"stack\":[\"PaymentDeclined: card was declined\",\"    at charge (/var/task/payment.js:{}:13)\",\"    at Runtime.handler (/var/task/index.js:42:5)\"]}}\n",
            10 + random % 80
        ),
        2 if random % 11 == 3 => format!("{at}\t{id}\tWARN\tpayment provider is slow, second try for order {order}\n"),
        2 => format!("{at}\t{id}\tINFO\torder {order} paid: {}.{:02} EUR\n", cents / 100, cents % 100),
        3 => format!("END RequestId: {id}\n"),
        _ => {
            let micros = 4_000 + mix(random, 5) % 900_000;
            format!(
                "REPORT RequestId: {id}\tDuration: {}.{:02} ms\tBilled Duration: {} ms\tMemory Size: 256 MB\tMax Memory Used: {} MB\t\n",
                micros / 1000,
                micros % 1000 / 10,
                micros / 1000 + 1,
                60 + mix(random, 6) % 60
            )
        }
    }
}

fn java(seed: u64, k: u64, at: Timestamp) -> String {
    let random = mix(seed, k);
    let thread = 1 + random % 8;
    let class = pick(
        &["c.e.s.CartController", "c.e.s.ProductService", "o.s.w.s.DispatcherServlet", "c.z.h.pool.HikariPool"],
        mix(random, 1),
    );
    let head = |level: &str| format!("{at} {level:>5} 1 --- [nio-8080-exec-{thread}] {class:<32} :");
    let id = mix(random, 2) % 100_000;
    match random % 47 {
        0 => format!(
            "{} request {id} failed\njava.lang.IllegalStateException: cart {id} has no owner\n\
             \tat com.example.storefront.Cart.owner(Cart.java:{})\n\
             \tat com.example.storefront.CartController.show(CartController.java:88)\n\
             \tat java.base/java.lang.Thread.run(Thread.java:1583)\n\
             Caused by: java.sql.SQLTransientConnectionException: storefront - connection is not available\n\
             \tat com.zaxxer.hikari.pool.HikariPool.getConnection(HikariPool.java:181)\n\t... 31 more",
            head("ERROR"),
            20 + id % 300
        ),
        1..=3 => format!("{} connection reset by peer, request {id} tried again", head("WARN")),
        4 => format!("{} \u{1b}[32mhealth check passed\u{1b}[0m in {} ms", head("INFO"), 1 + id % 9),
        _ => format!("{} request {id}: {} served in {} ms", head("INFO"), pick(&PATHS, mix(random, 3)), 1 + id % 240),
    }
}

fn nginx(seed: u64, k: u64, at: Timestamp) -> String {
    let random = mix(seed, k);
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let status = match random % 60 {
        0 => 500,
        1 => 502,
        2..=4 => 404,
        5..=9 => 304,
        _ => 200,
    };
    format!(
        "203.0.113.{} - - [{}] \"{} {} HTTP/1.1\" {status} {} \"-\" \"{}\"",
        mix(random, 1) % 254 + 1,
        time.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        if random.is_multiple_of(5) { "POST" } else { "GET" },
        pick(&PATHS, mix(random, 2)),
        120 + mix(random, 3) % 40_000,
        pick(&AGENTS, mix(random, 4))
    )
}

fn json(seed: u64, k: u64, at: Timestamp) -> String {
    let random = mix(seed, k);
    let (level, message) = match random % 31 {
        0 => ("ERROR", "could not reserve stock: connection reset"),
        1 | 2 => ("WARN", "stock is low"),
        3..=9 => ("DEBUG", "cache miss"),
        _ => ("INFO", "order accepted"),
    };
    serde_json::json!({
        "time": at.to_string(),
        "level": level,
        "service": "orders",
        "message": message,
        "trace_id": format!("{:016x}{:016x}", mix(random, 1), mix(random, 2)),
        "order": { "id": 10_000 + mix(random, 3) % 90_000, "item": pick(&ITEMS, mix(random, 4)), "quantity": 1 + random % 4 },
        "latency_ms": mix(random, 5) % 900,
    })
    .to_string()
}

fn batch(seed: u64, k: u64) -> String {
    let random = mix(seed, k);
    match random % 23 {
        0 => format!("WARN  row {} has no customer, skipped", k * 500 + random % 500),
        1 => format!("ERROR row {} could not be read: unexpected end of line", k * 500 + random % 500),
        _ => format!("INFO  {} rows copied in {}.{} s", (k + 1) * 500, 1 + random % 7, random % 10),
    }
}

fn audit(seed: u64, k: u64, at: Timestamp) -> String {
    let random = mix(seed, k);
    format!(
        "{at} seq={k} actor=user-{:04} action={} object=order/{} result={} request={} source=198.51.100.{} checksum={:016x}{:016x}",
        mix(random, 1) % 400,
        pick(&["read", "update", "approve", "export", "delete"], mix(random, 2)),
        mix(random, 3) % 100_000,
        if random.is_multiple_of(40) { "denied" } else { "ok" },
        uuid(random),
        mix(random, 4) % 254 + 1,
        mix(random, 5),
        mix(random, 6)
    )
}
