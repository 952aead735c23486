//! Static files over HTTP: what lies below a listener's `httpRootDir`.
//!
//! Nothing else is served: a path is decoded once, and then no segment of it may be empty or begin
//! with a dot; where it leads, links followed, must lie below the root. Whoever may write below
//! the root decides what is served. Directories are not listed.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::UNIX_EPOCH;
use std::{fmt, fs, io};

use bytes::BytesMut;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, LOCATION,
};
use hyper::{Method, Response, StatusCode};
use tokio::fs::File;
use tokio_util::io::poll_read_buf;

/// A directory whose files are served.
#[derive(Debug)]
pub(crate) struct Files {
    /// Without links and dots.
    root: PathBuf,
}

impl Files {
    /// # Errors
    /// There is no such directory, or it cannot be read.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        fs::read_dir(&root)?;
        Ok(Self { root })
    }

    /// Answers a GET or HEAD of a path, as the request spells it.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Response<Content> {
        match self.find(path).await {
            Found::Nothing => status(StatusCode::NOT_FOUND, "not found\n"),
            Found::Directory => {
                let mut response = status(StatusCode::MOVED_PERMANENTLY, "");
                // A path that leads somewhere is sound, and begins with one slash.
                if let Ok(location) = HeaderValue::try_from(format!("{path}/")) {
                    response.headers_mut().insert(LOCATION, location);
                }
                response
            }
            Found::File(file) => file.answer(method, headers),
        }
    }

    async fn find(&self, path: &str) -> Found {
        let Some(relative) = relative(path) else {
            return Found::Nothing;
        };
        let root = self.root.clone();
        // The file system may take its time.
        let looked = tokio::task::spawn_blocking(move || look(&root, &relative));
        looked.await.ok().flatten().unwrap_or(Found::Nothing)
    }
}

enum Found {
    Nothing,
    /// Its name lacks the slash that relative links in its index need.
    Directory,
    File(Opened),
}

/// A file to be served.
struct Opened {
    file: fs::File,
    octets: u64,
    kind: &'static str,
    /// Changes when the file does.
    tag: String,
}

impl Opened {
    fn answer(self, method: &Method, headers: &HeaderMap) -> Response<Content> {
        let known = headers.get_all(IF_NONE_MATCH).iter();
        let is_known = known
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim() == "*" || tag.trim() == self.tag);
        let mut response = match is_known {
            true => status(StatusCode::NOT_MODIFIED, ""),
            false => {
                let content = match *method == Method::HEAD {
                    true => Content::Empty(self.octets),
                    false => Content::of_file(self.file, self.octets),
                };
                let mut response = Response::new(content);
                set(&mut response, CONTENT_TYPE, self.kind);
                response
                    .headers_mut()
                    .insert(CONTENT_LENGTH, self.octets.into());
                response
            }
        };
        set(&mut response, ETAG, &self.tag);
        // To be asked about every time, so that a new file counts at once.
        set(&mut response, CACHE_CONTROL, "no-cache");
        set(
            &mut response,
            HeaderName::from_static("x-content-type-options"),
            "nosniff",
        );
        response
    }
}

/// The body of an answer: a text, or a file that is read as the peer takes it.
pub(crate) enum Content {
    Text(Option<Bytes>),
    /// What a HEAD is told of a body of this many octets.
    Empty(u64),
    File {
        file: Box<File>,
        /// Octets still to come: the file's length when it was opened.
        left: u64,
        buffer: BytesMut,
    },
}

impl Content {
    fn of_file(file: fs::File, octets: u64) -> Self {
        Self::File {
            file: Box::new(File::from_std(file)),
            left: octets,
            buffer: BytesMut::new(),
        }
    }
}

impl From<Bytes> for Content {
    fn from(text: Bytes) -> Self {
        Self::Text(Some(text).filter(|text| !text.is_empty()))
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(Frame::data).map(Ok)),
            Self::Empty(_) | Self::File { left: 0, .. } => Poll::Ready(None),
            Self::File { file, left, buffer } => {
                buffer.reserve(CHUNK);
                match poll_read_buf(Pin::new(&mut **file), cx, buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                    // It has become shorter: the peer is to notice.
                    Poll::Ready(Ok(0)) => {
                        Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
                    }
                    Poll::Ready(Ok(_)) => {
                        // What it has grown by meanwhile is not for this answer.
                        let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
                        let count = buffer.len().min(wanted);
                        let octets = buffer.split().freeze().slice(..count);
                        *left -= count as u64;
                        Poll::Ready(Some(Ok(Frame::data(octets))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Empty(_) => true,
            Self::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Self::Empty(octets) => *octets,
            Self::File { left, .. } => *left,
        })
    }
}

/// The path below the root that a request's path means, `index.html` in a directory that is named
/// with its slash. `None` for what is never served.
pub(crate) fn relative(path: &str) -> Option<PathBuf> {
    if path.len() > MAX_PATH {
        return None;
    }
    let decoded = decode(path.strip_prefix('/')?)?;
    let mut relative = PathBuf::new();
    let mut segments = decoded.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "" if is_last => relative.push("index.html"),
            "" => return None,
            _ if segment.starts_with('.') => return None,
            // Of other systems: separators, drives and streams.
            _ if segment.contains(['\\', ':']) => return None,
            _ if segment.chars().any(char::is_control) => return None,
            _ => relative.push(segment),
        }
    }
    Some(relative)
}

/// Undoes percent-encoding, once (RFC 3986 section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

/// Opens what lies there, if it is a file below the root.
fn look(root: &Path, relative: &Path) -> Option<Found> {
    let place = fs::canonicalize(root.join(relative)).ok()?;
    let below = place.strip_prefix(root).ok()?;
    // A link may lead to what its own name would hide.
    let is_hidden = |part: &std::ffi::OsStr| part.as_encoded_bytes().starts_with(b".");
    if below.iter().any(is_hidden) {
        return None;
    }
    let data = fs::metadata(&place).ok()?;
    if data.is_dir() {
        return place
            .join("index.html")
            .exists()
            .then_some(Found::Directory);
    }
    // Opening a pipe would wait for its writer.
    if !data.is_file() {
        return None;
    }
    let file = fs::File::open(&place).ok()?;
    let data = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let written = data.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Found::File(Opened {
        octets: data.len(),
        kind: kind(&place),
        tag: format!("W/\"{:x}-{:x}\"", written.as_nanos(), data.len()),
        file,
    }))
}

/// What a file's name says that it holds.
fn kind(file: &Path) -> &'static str {
    let extension = file.extension().and_then(|text| text.to_str());
    let extension = extension.map(str::to_ascii_lowercase).unwrap_or_default();
    let known = KINDS.iter().find(|(known, _)| *known == extension);
    known.map_or("application/octet-stream", |(_, kind)| kind)
}

fn status(status: StatusCode, text: &'static str) -> Response<Content> {
    let mut response = Response::new(Content::from(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    if !text.is_empty() {
        set(&mut response, CONTENT_TYPE, "text/plain");
    }
    response
}

fn set(response: &mut Response<Content>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

const KINDS: [(&str, &str); 20] = [
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
];
/// Octets of a path.
const MAX_PATH: usize = 2048;
/// Octets that are read at a time.
const CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn paths_that_are_served_and_paths_that_are_not() {
        for (path, expected) in [
            ("/", "index.html"),
            ("/a.js", "a.js"),
            ("/a/b/", "a/b/index.html"),
            ("/a%20b", "a b"),
            ("/a%2Fb", "a/b"),
            ("/%C3%A9", "é"),
            ("/a%252e%252e", "a%2e%2e"),
        ] {
            assert_eq!(relative(path), Some(expected.into()), "{path}");
        }
        for path in [
            "",
            "a",
            "*",
            "//",
            "//etc/passwd",
            "/a//b",
            "/..",
            "/../a",
            "/a/../b",
            "/.",
            "/./a",
            "/.git/config",
            "/a/.b",
            "/%2e%2e/a",
            "/%2E./a",
            "/..%2Fa",
            "/a%2F..%2Fb",
            "/%2Fetc",
            "/a%00",
            "/a%0a",
            "/%",
            "/%2",
            "/%zz",
            "/%ff",
            "/a%5C..%5Cb",
            "/C:%5Ca",
            "/C:/a",
            "/a::$DATA",
            "http://host/a",
        ] {
            assert_eq!(relative(path), None, "{path}");
        }
        assert_eq!(relative(&format!("/{}", "a".repeat(MAX_PATH))), None);
    }

    #[test]
    fn files_have_their_type_and_length_and_are_not_sent_twice() {
        let site = Site::new();
        let page = site.get("/", &[]);
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.body, b"<p>hello</p>");
        assert_eq!(page.header("content-length"), "12");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        let tag = page.header("etag").to_owned();
        for known in [tag.as_str(), "*", &format!("\"x\", {tag}")] {
            let again = site.get("/index.html", &[("if-none-match", known)]);
            assert_eq!((again.status, again.body.len()), (304, 0));
            assert_eq!(again.header("etag"), tag);
        }
        assert_eq!(site.get("/", &[("if-none-match", "\"x\"")]).status, 200);
        fs::write(site.root().join("index.html"), "<p>news</p>").unwrap();
        assert_eq!(
            site.get("/", &[("if-none-match", &tag)]).body,
            b"<p>news</p>"
        );

        let head = site.ask(&Method::HEAD, "/big.bin", &[]);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), BIG.to_string());
        assert_eq!(head.header("content-type"), "application/octet-stream");
        let big = site.get("/big.bin", &[]);
        assert!(big.body.len() == BIG && big.body.iter().all(|octet| *octet == 7));
    }

    #[test]
    fn directories_are_entered_by_their_index_and_not_listed() {
        let site = Site::new();
        let moved = site.get("/sub", &[]);
        assert_eq!((moved.status, moved.header("location")), (301, "/sub/"));
        assert_eq!(site.get("/sub/", &[]).body, b"below");
        assert_eq!(site.get("/bare", &[]).status, 404);
        assert_eq!(site.get("/bare/", &[]).status, 404);
        assert_eq!(site.get("/index.html/", &[]).status, 404);
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_nowhere_outside() {
        use std::os::unix::fs::symlink;
        let site = Site::new();
        let (root, outside) = (site.root(), site.directory.path());
        symlink(outside.join("secret"), root.join("link")).unwrap();
        symlink(outside, root.join("up")).unwrap();
        symlink("../secret", root.join("relative")).unwrap();
        symlink(root.join(".hidden"), root.join("shown")).unwrap();
        symlink("index.html", root.join("good.html")).unwrap();
        for path in [
            "/link",
            "/up/secret",
            "/relative",
            "/shown",
            "/.hidden",
            "/%2ehidden",
        ] {
            let answer = site.get(path, &[]);
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (404, &b"not found\n"[..])
            );
        }
        assert_eq!(site.get("/good.html", &[]).status, 200);
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_cut_off() {
        let site = Site::new();
        let file = fs::File::open(site.root().join("index.html")).unwrap();
        let content = Content::of_file(file, 1000);
        assert!(runtime().block_on(content.collect()).is_err());
        let file = fs::File::open(site.root().join("index.html")).unwrap();
        let content = runtime().block_on(Content::of_file(file, 3).collect());
        assert_eq!(content.unwrap().to_bytes(), "<p>");
    }

    const BIG: usize = 300_000;

    /// A root with a few files, and a secret beside it.
    struct Site {
        directory: tempfile::TempDir,
        files: Files,
    }

    struct Answer {
        status: u16,
        headers: HeaderMap,
        body: Vec<u8>,
    }

    impl Site {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join("root");
            fs::create_dir_all(root.join("sub")).unwrap();
            fs::create_dir(root.join("bare")).unwrap();
            fs::write(directory.path().join("secret"), "secret").unwrap();
            fs::write(root.join("index.html"), "<p>hello</p>").unwrap();
            fs::write(root.join("sub/index.html"), "below").unwrap();
            fs::write(root.join(".hidden"), "hidden").unwrap();
            fs::write(root.join("big.bin"), vec![7; BIG]).unwrap();
            let files = Files::new(&root).unwrap();
            Self { directory, files }
        }

        fn root(&self) -> PathBuf {
            self.directory.path().join("root")
        }

        fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
            self.ask(&Method::GET, path, headers)
        }

        fn ask(&self, method: &Method, path: &str, headers: &[(&'static str, &str)]) -> Answer {
            let pairs = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            let headers = pairs.collect();
            runtime().block_on(async {
                let response = self.files.answer(method, path, &headers).await;
                let (parts, content) = response.into_parts();
                Answer {
                    status: parts.status.as_u16(),
                    headers: parts.headers,
                    body: content.collect().await.unwrap().to_bytes().to_vec(),
                }
            })
        }
    }

    impl Answer {
        fn header(&self, name: &str) -> &str {
            self.headers[name].to_str().unwrap()
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }
}
