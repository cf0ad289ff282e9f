//! Servers that fail in every way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headstart_tests::agent::Agent;
use headstart_tests::archive::{config, sha256};
use headstart_tests::origin::{Answer, Asked, Origin};
use serde_json::Value;

use super::{archive, message, mirrored, site, start};

/// What a server makes of the archive and a request.
type Reply = fn(&[u8], &Asked) -> Answer;

/// The agent fails with this reason; its message.
#[track_caller]
fn refused(
    reason: &'static str,
    answers: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static,
) -> impl Future<Output = String> {
    let caller = std::panic::Location::caller();
    async move {
        let (_origin, node) = site(answers).await;
        let agent = start(&node, &[]);
        assert_eq!(agent.failed().await, reason, "{caller}: {:#?}", agent.log());
        assert_eq!(node.list("versions"), [""; 0], "{caller}");
        let status = agent.status("failed", |status| status["versions"][0]["fault"].is_object()).await;
        message(&status).to_owned()
    }
}

/// The agent gets ready; what the server was asked.
async fn fetched(answers: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Vec<Asked> {
    let (origin, node) = site(answers).await;
    let agent = start(&node, &[]);
    let status = agent.ready().await;
    assert_eq!(status["versions"][0]["failures"], 0);
    assert!(!agent.has_said("install failed"), "in one attempt: {:#?}", agent.log());
    origin.asked()
}

fn froms(asked: &[Asked]) -> Vec<usize> {
    asked.iter().map(Asked::from).collect()
}

#[tokio::test]
async fn a_transfer_that_breaks_goes_on_where_it_broke() {
    let content = archive();
    let half = content.len() / 2;
    let asked = fetched(move |number, asked| {
        let answer = Answer::part(&content, asked).with("ETag: \"one\"");
        match number {
            0 => answer.cut(half),
            1 => answer.cut(1000),
            _ => answer,
        }
    })
    .await;
    assert_eq!(froms(&asked), [0, half, half + 1000]);
    assert_eq!(asked[0].header("if-range"), None);
    for later in &asked[1..] {
        assert_eq!(later.header("if-range"), Some("\"one\""));
    }
    assert!(asked.iter().all(|asked| asked.header("accept-encoding") == Some("identity")));
}

#[tokio::test]
async fn a_server_that_restarts_in_the_middle_is_waited_for() {
    let content = archive();
    let asked = fetched(move |number, asked| match number {
        0 => Answer::part(&content, asked).cut(5000),
        1 => Answer::status("503 Service Unavailable"),
        // It ends the connection without a word.
        2 => Answer::nothing().cut(0),
        3 => Answer::status("429 Too Many Requests"),
        _ => Answer::part(&content, asked),
    })
    .await;
    assert_eq!(froms(&asked), [0, 5000, 5000, 5000, 5000]);
}

#[tokio::test]
async fn a_silent_server_is_asked_to_go_on_too() {
    let content = archive();
    let (origin, node) = site(move |number, asked| match number {
        0 => Answer::part(&content, asked).cut(5000).then_silent(),
        _ => Answer::part(&content, asked),
    })
    .await;
    start(&node, &["--source-silence", "3"]).ready().await;
    assert_eq!(froms(&origin.asked()), [0, 5000]);
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_of_it_again() {
    let content = archive();
    let asked = fetched(move |number, _| match number {
        0 => Answer::whole(&content).cut(5000),
        _ => Answer::whole(&content),
    })
    .await;
    assert_eq!(froms(&asked), [0, 5000]);
}

#[tokio::test]
async fn a_server_that_cannot_go_on_is_asked_for_all_of_it() {
    let wrong: [Reply; 3] = [
        |_, _| Answer::status("416 Range Not Satisfiable"),
        |content, _| Answer::range(content, 4000),
        |content, asked| Answer::part(content, asked).with("ETag: \"two\""),
    ];
    for second in wrong {
        let content = archive();
        let asked = fetched(move |number, asked| match number {
            0 => Answer::whole(&content).with("ETag: \"one\"").cut(5000),
            1 => second(&content, asked),
            _ => Answer::part(&content, asked),
        })
        .await;
        assert_eq!(froms(&asked), [0, 5000, 0]);
    }
}

#[tokio::test]
async fn an_archive_that_changes_meanwhile_is_fetched_once_more_in_one_piece() {
    let (old, new) = (vec![7; 100_000], archive());
    // Nothing but the digest can tell.
    let asked = fetched(move |number, asked| match number {
        0 => Answer::whole(&old).cut(5000),
        _ => Answer::part(&new, asked),
    })
    .await;
    assert_eq!(froms(&asked), [0, 5000, 0]);
}

#[tokio::test]
async fn how_a_server_labels_the_archive_does_not_matter() {
    let content = archive();
    fetched(move |_, _| Answer::whole(&content).with("Content-Encoding: gzip").announcing(None)).await;
}

#[tokio::test]
async fn servers_that_never_give_all_of_it_are_named() {
    let content = archive();
    let half = content.len() / 2;
    let message = refused("SourceTruncated", move |_, _| Answer::whole(&content).cut(half)).await;
    assert!(message.contains("/source.tar.gz"), "{message}");
    let content = archive();
    let promised = content.len() + 10;
    let more = move |_, asked: &Asked| match asked.header("range") {
        Some(_) => Answer::status("416 Range Not Satisfiable"),
        None => Answer::whole(&content).announcing(Some(promised)),
    };
    refused("SourceTruncated", more).await;
    let content = archive();
    refused("DigestMismatch", move |_, _| Answer::whole(&content).announcing(Some(5000))).await;
}

#[tokio::test]
async fn silent_servers_are_named() {
    let answers: [Reply; 2] =
        [|_, _| Answer::nothing(), |content, _| Answer::whole(content).cut(5000).then_silent()];
    for answer in answers {
        let content = archive();
        let (_origin, node) = site(move |_, asked| answer(&content, asked)).await;
        let mut command = node.command();
        command.env("HEADSTART_SOURCE_SILENCE", "1");
        assert_eq!(Agent::spawn(command).failed().await, "SourceTimeout");
    }
}

#[tokio::test]
async fn servers_that_refuse_are_named() {
    for status in ["401 Unauthorized", "403 Forbidden", "407 Proxy Authentication Required"] {
        let message = refused("SourceDenied", move |_, _| Answer::status(status)).await;
        assert!(message.contains(&status[..3]), "{message}");
    }
    for status in ["404 Not Found", "500 Internal Server Error", "204 No Content", "206 Partial Content"] {
        refused("SourceUnavailable", move |_, _| Answer::status(status)).await;
    }
    let message = refused("SourceRedirects", |_, asked| match asked.line.as_str() {
        "GET /source.tar.gz" => Answer::to("/elsewhere?signature=s3cret"),
        _ => Answer::to("/source.tar.gz"),
    })
    .await;
    assert!(message.contains("too many redirects") && !message.contains("s3cret"), "{message}");
}

#[tokio::test]
async fn archives_that_are_too_long_are_not_even_begun() {
    let content = archive();
    let announced = move |_, _: &Asked| Answer::whole(&content).announcing(Some(400_000_000));
    refused("TooLarge", announced).await;
    let content = archive();
    let (origin, node) = site(move |_, _| Answer::whole(&content).announcing(None)).await;
    let config = config(&format!("{}/source.tar.gz", origin.url), &sha256(&archive()));
    node.configure(&config.replace("archiveBytes: 300000000", "archiveBytes: 5000"));
    assert_eq!(start(&node, &[]).failed().await, "TooLarge");
}

#[tokio::test]
async fn a_server_in_trouble_is_tried_again_until_it_recovers() {
    let well = Arc::new(AtomicBool::new(false));
    let (content, is_well) = (archive(), well.clone());
    let (_origin, node) = site(move |_, _| match is_well.load(Ordering::SeqCst) {
        false => Answer::status("500 Internal Server Error"),
        true => Answer::whole(&content),
    })
    .await;
    let agent = start(&node, &[]);
    assert_eq!(agent.failed().await, "SourceUnavailable");
    well.store(true, Ordering::SeqCst);
    agent.ready().await;
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_the_first_good_one_will_do() {
    let content = archive();
    let origin = Origin::serve(None, move |_, asked| match asked.line.as_str() {
        "GET /gone" => Answer::status("404 Not Found"),
        "GET /other" => Answer::whole(b"<html>a portal that wants a password</html>"),
        "GET /short" => Answer::whole(&content).cut(5000),
        _ => Answer::whole(&content),
    })
    .await;
    let node =
        mirrored(&["gone", "other", "short", "good", "never"].map(|path| format!("{}/{path}", origin.url)));
    let agent = start(&node, &[]);
    agent.ready().await;
    assert_eq!(origin.lines(), ["GET /gone", "GET /other", "GET /short", "GET /short", "GET /good"]);
    assert!(!agent.has_said("install failed"));
}

#[tokio::test]
async fn if_no_address_is_of_use_the_first_one_is_reported_with_a_word_on_the_others() {
    let origin = Origin::serve(None, |_, asked| match asked.line.as_str() {
        "GET /first" => Answer::whole(b"something else"),
        _ => Answer::status("403 Forbidden"),
    })
    .await;
    let node = mirrored(&["first", "second"].map(|path| format!("{}/{path}", origin.url)));
    let agent = start(&node, &[]);
    assert_eq!(agent.failed().await, "DigestMismatch");
    let status = agent.status("failed", |status| status["versions"][0]["fault"].is_object()).await;
    let (first, second) = message(&status).split_once("; also ").unwrap();
    assert!(first.contains("/first has sha256"), "{first}");
    assert!(second.ends_with("/second: SourceDenied"), "{second}");
}

#[tokio::test]
async fn a_file_on_the_node_may_have_a_mirror() {
    let content = archive();
    let origin = Origin::serve(None, move |_, _| Answer::whole(&content)).await;
    let node = mirrored(&["file:///nowhere".to_owned(), format!("{}/good", origin.url)]);
    start(&node, &[]).ready().await;
    assert_eq!(origin.lines(), ["GET /good"]);
}

#[tokio::test]
async fn progress_counts_what_is_there_and_a_new_configuration_ends_the_waiting() {
    let again: [(usize, Reply); 2] = [
        (6000, |content, asked| Answer::part(content, asked).cut(1000)),
        (7000, |content, _| Answer::whole(content).cut(7000)),
    ];
    for (bytes, second) in again {
        let content = archive();
        let total = content.len();
        let (_origin, node) = site(move |number, asked| match number {
            0 => Answer::whole(&content).cut(5000),
            _ => second(&content, asked).then_silent(),
        })
        .await;
        let agent = start(&node, &["--source-silence", "3600"]);
        let counted = |status: &Value| {
            let progress = &status["versions"][0]["progress"];
            progress["bytesDone"] == bytes && progress["bytesTotal"] == total
        };
        agent.status(&format!("{bytes} of {total}"), counted).await;
        let content = archive();
        let origin = Origin::serve(None, move |_, _| Answer::whole(&content)).await;
        node.configure(&config(&format!("{}/source.tar.gz", origin.url), &sha256(&archive())));
        agent.ready().await;
    }
}
