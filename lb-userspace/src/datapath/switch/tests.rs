//! What becomes of counters.

use super::*;

#[test]
fn counters_go_on_from_what_both_programs_have_counted() {
    let bytes =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_ne_bytes()).collect() };
    // 5 and 7 when they were copied; the programs of before went on to 6 and 7, the new ones to 9 and 8.
    let more = subtract(&bytes(&[6, 7]), &bytes(&[5, 7]));
    assert_eq!(add(&bytes(&[9, 8]), &more), bytes(&[10, 8]));
    // An entry that was all zeros when it was copied.
    assert_eq!(subtract(&bytes(&[3]), &[]), bytes(&[3]));
}
