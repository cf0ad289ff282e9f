//! Names of runners and journals: random, so that nobody else ever draws them, and as long as Kubernetes allows.

use fastrand::Rng;

/// The letters that Kubernetes itself draws names from: no vowels, so that no words come out.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Random letters in a runner's name. ARC's own names have five; ours must not meet them, nor each other's.
const RANDOM: usize = 10;

/// Longest name: that of a Pod's host, and below the service's own bound of 64.
const LONGEST: usize = 63;

/// A name for a runner of the set, begun as ARC begins its own.
pub fn runner(set: &str, rng: &mut Rng) -> String {
    let begun = format!("{set}-runner-");
    let kept = begun.floor_char_boundary(LONGEST - RANDOM);
    format!("{}{}", &begun[..kept], letters(RANDOM, rng))
}

/// A name for a journal.
pub fn journal(rng: &mut Rng) -> String {
    format!("headstart-journal-{}", letters(RANDOM, rng))
}

fn letters(count: usize, rng: &mut Rng) -> String {
    let letter = |_| LETTERS.get(rng.usize(..LETTERS.len())).map_or('b', |letter| char::from(*letter));
    (0..count).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let mut rng = Rng::with_seed(1);
        let short = runner("ci", &mut rng);
        assert!(short.starts_with("ci-runner-") && short.len() == 20, "{short}");
        let long = runner(&"x".repeat(80), &mut rng);
        assert!(long.len() == LONGEST && long.starts_with('x'), "{long}");
        let mut names: Vec<String> = (0..1000).map(|_| runner("ci", &mut rng)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1000);
    }
}
