//! Any image pattern and image, and any configuration text: nothing panics, and matching keeps its promises.

#![no_main]

use headstart_externals::config::Config;
use headstart_externals::image::ImagePattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Also the error is made: it looks at the text once more.
    let _ = Config::parse(text).map_err(|problems| problems.to_string());
    let (pattern, image) = text.split_once('\n').unwrap_or((text, text));
    let known = ImagePattern::new(pattern);
    let matches = known.matches(image);
    if !pattern.contains('*') {
        assert_eq!(matches, pattern == image, "a literal matches itself and nothing else");
    } else if matches {
        let last = image.rsplit('/').next().unwrap_or(image);
        let name = last.split('@').next().unwrap_or(last);
        assert!(name.split_once(':').is_some_and(|(_, tag)| tag != "latest"), "a wildcard needs a telling tag");
    }
});
