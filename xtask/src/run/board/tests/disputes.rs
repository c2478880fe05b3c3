//! Reports and readings that do not agree.

use super::*;

#[test]
fn answer_of_an_endpoint_that_just_left_is_right() {
    let (mut board, mut clock) = board(&[frontend("web", &[1, 2])]);
    board.merge(listing(clock.tick(), &[frontend("web", &[2])]));
    board.enter(clock.tick(), answered(&board, "pod-1"));
    board.merge(listing(clock.tick(), &[frontend("web", &[2])]));
    assert_eq!(row(&board).ok, 1);
    assert_eq!(counts(&board), [("pod-2".to_owned(), 0)]);
    assert!(board.failures().is_empty());
}

#[test]
fn answer_of_an_endpoint_long_gone_is_a_failure() {
    let (mut board, mut clock) = board(&[frontend("web", &[1, 2])]);
    for _ in 0..2 {
        board.merge(listing(clock.tick(), &[frontend("web", &[2])]));
    }
    board.enter(clock.tick(), answered(&board, "pod-1"));
    board.merge(listing(clock.tick(), &[frontend("web", &[2])]));
    assert_eq!(
        board.failures(),
        ["default/web: pod-1 answered, which is no endpoint of it"]
    );
}

#[test]
fn answer_of_an_endpoint_that_the_next_reading_names_is_right() {
    let (mut board, mut clock) = board(&[frontend("web", &[1])]);
    board.enter(clock.tick(), answered(&board, "pod-2"));
    assert_eq!(row(&board).ok, 0);
    board.merge(listing(clock.tick(), &[frontend("web", &[1, 2])]));
    assert_eq!(row(&board).ok, 1);
    assert!(board.failures().is_empty());
}

#[test]
fn reading_that_began_before_a_dispute_does_not_settle_it() {
    let (mut board, mut clock) = board(&[frontend("web", &[1])]);
    let began = clock.tick();
    board.enter(clock.tick(), silent(&board));
    board.merge(listing(began, &[frontend("web", &[1])]));
    assert!(board.failures().is_empty());
    board.merge(listing(clock.tick(), &[frontend("web", &[])]));
    assert!(board.failures().is_empty());
    assert_eq!(row(&board).ok, 1);
}

#[test]
fn silence_of_a_frontend_that_goes_is_forgotten() {
    let (mut board, mut clock) = board(&[frontend("web", &[1])]);
    board.enter(clock.tick(), silent(&board));
    board.merge(listing(clock.tick(), &[]));
    board.merge(listing(clock.tick(), &[frontend("web", &[1])]));
    assert!(board.failures().is_empty());
}

#[test]
fn silence_without_a_change_is_a_failure_until_it_is_forgotten() {
    let (mut board, mut clock) = board(&[frontend("web", &[1])]);
    board.enter(clock.tick(), silent(&board));
    board.merge(listing(clock.tick(), &[frontend("web", &[1])]));
    assert_eq!(row(&board).state(), State::Failed);
    assert!(!board.is_well());
    let later = clock.tick() + Duration::from_secs(7);
    board.forget(later);
    assert_eq!(board.failures().len(), 1);
    board.forget(later + Duration::from_secs(2));
    assert!(board.failures().is_empty());
    assert_eq!(row(&board).state(), State::Waiting);
}
