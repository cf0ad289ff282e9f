//! What follows from the head of an answer, and from the end of a try: pure, so that every faulty server is a line of a
//! table.

use std::time::Duration;

use headstart_externals::fault::FaultReason;

use crate::fault::Fault;

/// Most tries of one address in one download, unless each brings much.
const TRIES: u32 = 10;

/// So many bytes in one try are much: behind a proxy that cuts every transfer, a large archive comes in many parts.
const MUCH: u64 = 1 << 20;

/// Wait before the second try; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Longest wait.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What is asked of a server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'a> {
    /// The first byte that is wanted.
    pub(super) from: u64,
    /// The `ETag` of what came before.
    pub(super) etag: Option<&'a str>,
}

/// The head of an answer, as far as it decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    /// Status code.
    pub(super) status: u16,
    /// `Content-Length`.
    pub(super) length: Option<u64>,
    /// `Content-Range`.
    pub(super) range: Option<String>,
    /// `ETag`.
    pub(super) etag: Option<String>,
}

/// What the body behind a head is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The whole archive.
    Whole {
        /// Its length.
        total: Option<u64>,
    },
    /// What was missing.
    Rest {
        /// Length of the whole archive.
        total: Option<u64>,
    },
    /// Not what was missing; the archive has to be asked for as a whole.
    Other(&'static str),
    /// Nothing of the archive.
    None(FaultReason),
}

/// Whether a server that answers so is in trouble that passes.
pub(super) const fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// What the body is, if the head keeps its word.
pub(super) fn body(asked: Asked<'_>, head: &Head) -> Body {
    match head.status {
        200 => Body::Whole { total: head.length },
        206 if asked.from > 0 => rest(asked, head),
        416 if asked.from > 0 => Body::Other("the server has no such range"),
        401 | 403 | 407 => Body::None(FaultReason::SourceDenied),
        _ => Body::None(FaultReason::SourceUnavailable),
    }
}

fn rest(asked: Asked<'_>, head: &Head) -> Body {
    let range = head.range.as_deref().and_then(ContentRange::parse);
    let Some(range) = range.filter(|range| range.first == asked.from) else {
        return Body::Other("the server gave another range than it was asked for");
    };
    match (asked.etag, head.etag.as_deref()) {
        (Some(before), Some(now)) if before != now => Body::Other("the archive changed on the server"),
        _ => Body::Rest { total: range.total.or_else(|| Some(head.length? + range.first)) },
    }
}

/// The value for `If-Range`: only a strong tag says that the bytes are the same.
pub(super) fn if_range<'a>(asked: &Asked<'a>) -> Option<&'a str> {
    asked.etag.filter(|tag| tag.starts_with('"'))
}

/// A `Content-Range` of bytes.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    total: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes <first>-<last>/<total or *>`.
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (number(first)?, number(last)?);
        let total = if total == "*" { None } else { Some(number(total)?) };
        (first <= last && total.is_none_or(|total| last < total)).then_some(Self { first, total })
    }
}

/// Digits and nothing else, no sign either.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// How a try ended that did not bring everything.
#[derive(Debug)]
pub(super) enum Broken {
    /// In the middle; what came stays.
    Midway(Fault),
    /// What came before cannot be continued.
    NoRest(Fault),
    /// The server was not reached, or is in trouble that passes: while it restarts, say.
    Away(Fault),
    /// The same would happen again at once.
    Failed(Fault),
}

/// What to do after a try, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for what is missing.
    GoOn(Duration, Fault),
    /// Ask for everything.
    StartOver(Duration, Fault),
    /// Leave this address.
    Leave(Fault),
}

/// The tries of one address.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Since one brought much.
    made: u32,
    /// Most bytes that were there after a try.
    furthest: u64,
    /// Whether the archive was put together wrong once.
    was_patchwork: bool,
}

impl Tries {
    /// One more try has ended, and `have` bytes are there.
    pub(super) fn broken(&mut self, broken: Broken, have: u64) -> Next {
        let gained = have > self.furthest;
        self.made = if have >= self.furthest.saturating_add(MUCH) { 1 } else { self.made + 1 };
        self.furthest = self.furthest.max(have);
        match broken {
            Broken::Failed(fault) => Next::Leave(fault),
            Broken::Midway(fault) | Broken::NoRest(fault) | Broken::Away(fault) if self.made >= TRIES => {
                Next::Leave(fault)
            }
            Broken::Midway(fault) if !gained => Next::Leave(fault),
            // Where nothing came yet, a mirror or a later attempt does as well.
            Broken::Away(fault) if have == 0 => Next::Leave(fault),
            Broken::Away(fault) => Next::GoOn(self.wait(), fault),
            Broken::Midway(fault) => Next::GoOn(self.wait(), fault),
            Broken::NoRest(fault) => Next::StartOver(self.wait(), fault),
        }
    }

    /// The digest is another one. If the archive is `patched` together from several answers, these may have been of
    /// different archives: then once more, in one piece.
    pub(super) fn mismatched(&mut self, fault: Fault, patched: bool) -> Next {
        self.made += 1;
        if !patched || self.was_patchwork || self.made >= TRIES {
            return Next::Leave(fault);
        }
        (self.was_patchwork, self.furthest) = (true, 0);
        Next::StartOver(self.wait(), fault)
    }

    fn wait(&self) -> Duration {
        FIRST_WAIT.saturating_mul(1 << self.made.saturating_sub(1).min(16)).min(LAST_WAIT)
    }
}

/// Whether another address would fail as well, since it is this node that cannot go on, or must not.
pub(super) const fn is_ours(reason: FaultReason) -> bool {
    matches!(
        reason,
        FaultReason::Cancelled
            | FaultReason::DiskFull
            | FaultReason::OverBudget
            | FaultReason::RootNotWritable
            | FaultReason::Io
    )
}

/// The fault of the first address, with a word on another one.
pub(super) fn likewise(first: Fault, address: &str, other: &Fault) -> Fault {
    Fault { message: format!("{}; also {address}: {}", first.message, other.reason), ..first }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Fault {
        Fault::new(FaultReason::SourceTruncated, "x")
    }

    fn part(range: &str, etag: Option<&str>) -> Head {
        let etag = etag.map(str::to_owned);
        Head { status: 206, length: Some(5), range: Some(range.to_owned()), etag }
    }

    #[test]
    fn a_content_range_is_read_exactly_or_not_at_all() {
        let read = |text| ContentRange::parse(text).map(|range| (range.first, range.total));
        assert_eq!(read("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((5, None)));
        for wrong in [
            "",
            "bytes */10",
            "bytes 5-9",
            "items 5-9/10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes +5-9/10",
            "bytes -5/10",
            "bytes 5-9/x",
            "bytes 5-99999999999999999999/*",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn heads_say_what_the_body_is() {
        let asked = Asked { from: 5, etag: Some("\"a\"") };
        let anew = Asked::default();
        let status = |status| Head { status, length: Some(7), ..Head::default() };
        assert_eq!(body(anew, &status(200)), Body::Whole { total: Some(7) });
        assert_eq!(body(asked, &status(200)), Body::Whole { total: Some(7) }, "the range was ignored");
        assert_eq!(body(asked, &part("bytes 5-9/10", Some("\"a\""))), Body::Rest { total: Some(10) });
        assert_eq!(body(asked, &part("bytes 5-9/*", None)), Body::Rest { total: Some(10) });
        for other in [
            part("bytes 4-9/10", None),
            part("bytes 5-9/10", Some("\"b\"")),
            part("nonsense", None),
            status(206),
            status(416),
        ] {
            assert!(matches!(body(asked, &other), Body::Other(_)), "{other:?}");
        }
        for (code, reason) in [
            (401, FaultReason::SourceDenied),
            (403, FaultReason::SourceDenied),
            (407, FaultReason::SourceDenied),
            (206, FaultReason::SourceUnavailable),
            (416, FaultReason::SourceUnavailable),
            (204, FaultReason::SourceUnavailable),
            (304, FaultReason::SourceUnavailable),
            (404, FaultReason::SourceUnavailable),
            (500, FaultReason::SourceUnavailable),
        ] {
            assert_eq!(body(anew, &status(code)), Body::None(reason), "{code}");
        }
    }

    #[test]
    fn only_a_strong_tag_is_asked_for() {
        assert_eq!(if_range(&Asked { from: 1, etag: Some("\"a\"") }), Some("\"a\""));
        assert_eq!(if_range(&Asked { from: 1, etag: Some("W/\"a\"") }), None);
    }

    fn midway() -> Broken {
        Broken::Midway(fault())
    }

    #[test]
    fn it_goes_on_as_long_as_it_gets_further() {
        let mut tries = Tries::default();
        assert_eq!(tries.broken(midway(), 10), Next::GoOn(FIRST_WAIT, fault()));
        assert_eq!(tries.broken(midway(), 11), Next::GoOn(FIRST_WAIT * 2, fault()));
        assert_eq!(tries.broken(Broken::NoRest(fault()), 11), Next::StartOver(FIRST_WAIT * 4, fault()));
        assert_eq!(tries.broken(midway(), 11), Next::Leave(fault()), "not further than before");
        assert_eq!(Tries::default().broken(midway(), 0), Next::Leave(fault()));
        assert_eq!(Tries::default().broken(Broken::Failed(fault()), 9), Next::Leave(fault()));
    }

    #[test]
    fn a_server_that_is_away_is_waited_for_if_it_has_brought_something() {
        let away = || Broken::Away(fault());
        assert_eq!(Tries::default().broken(away(), 0), Next::Leave(fault()));
        let mut tries = Tries::default();
        tries.broken(midway(), 10);
        assert_eq!(tries.broken(away(), 10), Next::GoOn(FIRST_WAIT * 2, fault()));
        assert_eq!(tries.broken(away(), 10), Next::GoOn(FIRST_WAIT * 4, fault()));
        let last = (0..TRIES).map(|_| tries.broken(away(), 10)).last();
        assert_eq!(last, Some(Next::Leave(fault())), "not for ever");
        assert!(is_passing(503) && is_passing(429) && !is_passing(404) && !is_passing(200));
    }

    #[test]
    fn tries_are_bounded_and_so_are_waits() {
        let mut tries = Tries::default();
        let nexts: Vec<Next> = (1..=TRIES).map(|at| tries.broken(midway(), at.into())).collect();
        let (last, others) = nexts.split_last().unwrap();
        assert_eq!(*last, Next::Leave(fault()));
        assert!(others.iter().all(|next| matches!(next, Next::GoOn(wait, _) if *wait <= LAST_WAIT)));
        let mut tries = Tries::default();
        let mut parts = (1..=u64::from(5 * TRIES)).map(|at| tries.broken(midway(), at * MUCH));
        assert!(
            parts.all(|next| next == Next::GoOn(FIRST_WAIT, fault())),
            "a large archive comes in many parts"
        );
    }

    #[test]
    fn patchwork_is_fetched_once_more_in_one_piece() {
        let mut tries = Tries::default();
        tries.broken(midway(), 10);
        assert!(matches!(tries.mismatched(fault(), true), Next::StartOver(..)));
        assert!(matches!(tries.broken(midway(), 5), Next::GoOn(..)), "counted from nothing");
        assert_eq!(tries.mismatched(fault(), true), Next::Leave(fault()));
        assert_eq!(Tries::default().mismatched(fault(), false), Next::Leave(fault()));
    }

    #[test]
    fn the_first_address_is_what_is_reported() {
        let denied = Fault::new(FaultReason::SourceDenied, "first says no");
        let all = likewise(denied, "https://b/", &fault());
        assert_eq!(all.reason, FaultReason::SourceDenied);
        assert_eq!(all.message, "first says no; also https://b/: SourceTruncated");
    }
}
