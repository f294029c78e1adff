use super::{Action, Operation, State, Verdict, check};
use crate::random::Random;
use Action::{Delete, Listed, Read, Write};

fn done(action: Action, invoked: u64, returned: u64) -> Operation {
    Operation { action, invoked, returned: Some(returned) }
}

fn open(action: Action, invoked: u64) -> Operation {
    Operation { action, invoked, returned: None }
}

fn is_linearizable(operations: &[Operation]) -> bool {
    let mut operations = operations.to_vec();
    operations.sort_by_key(|one| one.invoked);
    match check(&operations) {
        Verdict::Linearizable => true,
        Verdict::Violation(_) => false,
        Verdict::GivenUp(at) => panic!("given up at {at} of {}", operations.len()),
    }
}

#[test]
fn one_after_another() {
    assert!(is_linearizable(&[]));
    assert!(is_linearizable(&[
        done(Read(None), 0, 1),
        done(Write(1), 2, 3),
        done(Read(Some(1)), 4, 5),
        done(Listed(true), 6, 7),
        done(Delete { found: Some(true) }, 8, 9),
        done(Delete { found: Some(false) }, 10, 11),
        done(Listed(false), 12, 13),
    ]));
    assert!(!is_linearizable(&[done(Write(1), 0, 1), done(Read(None), 2, 3)]));
    assert!(!is_linearizable(&[done(Write(1), 0, 1), done(Delete { found: Some(false) }, 2, 3)]));
    assert!(!is_linearizable(&[done(Read(Some(1)), 0, 1)]), "nobody has pushed it");
}

#[test]
fn a_stale_read_is_found() {
    let moved = [done(Write(1), 0, 1), done(Write(2), 2, 3)];
    assert!(is_linearizable(&[moved[0], moved[1], done(Read(Some(2)), 4, 5)]));
    assert!(!is_linearizable(&[moved[0], moved[1], done(Read(Some(1)), 4, 5)]));
    assert!(is_linearizable(&[moved[0], moved[1], done(Read(Some(1)), 2, 5)]), "at once");
    let operations = [moved[0], moved[1], done(Read(Some(1)), 4, 5)];
    assert_eq!(check(&operations), Verdict::Violation(1), "2 came too early for the read");
}

#[test]
fn what_was_seen_stays_seen() {
    let write = done(Write(1), 0, 10);
    assert!(is_linearizable(&[write, done(Read(None), 1, 2), done(Read(Some(1)), 3, 4)]));
    assert!(!is_linearizable(&[write, done(Read(Some(1)), 1, 2), done(Read(None), 3, 4)]));
}

#[test]
fn two_see_two_orders() {
    let writes = [done(Write(1), 0, 10), done(Write(2), 0, 10)];
    let first = [done(Read(Some(1)), 11, 12), done(Read(Some(2)), 13, 14)];
    assert!(!is_linearizable(&[writes, first].concat()));
    let during = [done(Read(Some(1)), 1, 2), done(Read(Some(2)), 3, 4)];
    assert!(is_linearizable(&[writes, during].concat()));
}

#[test]
fn what_has_no_answer_may_happen_at_any_time_or_never() {
    let lost = open(Write(2), 5);
    let first = done(Write(1), 0, 1);
    assert!(is_linearizable(&[first, lost, done(Read(Some(1)), 50, 51)]));
    assert!(is_linearizable(&[first, lost, done(Read(Some(2)), 50, 51)]));
    let later = [done(Read(Some(1)), 50, 51), done(Read(Some(2)), 60, 61)];
    assert!(is_linearizable(&[first, lost, later[0], later[1]]));
    let back = [done(Read(Some(2)), 50, 51), done(Read(Some(1)), 60, 61)];
    assert!(!is_linearizable(&[first, lost, back[0], back[1]]));
    assert!(!is_linearizable(&[first, done(Read(Some(2)), 2, 3), lost]), "not before it was sent");
    let deleted = [open(Delete { found: None }, 5), done(Read(None), 50, 51)];
    assert!(is_linearizable(&[[first, lost], deleted].concat()));
    assert!(is_linearizable(&[
        first,
        done(Delete { found: Some(true) }, 2, 3),
        lost,
        done(Delete { found: Some(true) }, 50, 51),
    ]));
}

/// Compared with all orders that there are.
#[test]
fn small_histories_are_judged_as_by_hand() {
    let mut verdicts = [0, 0];
    for seed in 0..20_000 {
        let operations = random_history(&mut Random::new(seed));
        let expected = some_order_explains(&operations, &mut Vec::new(), None);
        assert_eq!(is_linearizable(&operations), expected, "seed {seed}: {operations:#?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 2000), "{verdicts:?}");
}

fn random_history(random: &mut Random) -> Vec<Operation> {
    let mut operations = Vec::new();
    for number in 0..random.between(1, 6) {
        let action = match random.between(0, 6) {
            0 | 1 => Write(number as u64),
            2 => Delete { found: Some(random.one_in(2)) },
            3 => Listed(random.one_in(2)),
            _ => Read((!random.one_in(4)).then(|| random.between(0, 5) as u64)),
        };
        let invoked = random.between(0, 12) as u64;
        let changes = !action.only_looks();
        operations.push(if changes && random.one_in(4) {
            let action = if let Delete { .. } = action { Delete { found: None } } else { action };
            open(action, invoked)
        } else {
            done(action, invoked, invoked + random.between(0, 8) as u64)
        });
    }
    operations.sort_by_key(|one| one.invoked);
    operations
}

fn some_order_explains(operations: &[Operation], order: &mut Vec<usize>, state: State) -> bool {
    let left = || (0..operations.len()).filter(|at| !order.contains(at)).collect::<Vec<_>>();
    let left = left();
    if left.iter().all(|at| operations[*at].returned.is_none()) {
        return true;
    }
    left.iter().any(|at| {
        let next = operations[*at];
        let waits =
            |other: &usize| operations[*other].returned.is_some_and(|end| end < next.invoked);
        let Some(state) = next.action.apply(state).filter(|_| !left.iter().any(waits)) else {
            return false;
        };
        order.push(*at);
        let explained = some_order_explains(operations, order, state);
        order.pop();
        explained
    })
}

/// Many clients, most of which get an answer; played on a real register, so that it is
/// linearizable, and then with one answer changed, so that it is not.
#[test]
fn long_histories_are_judged_soon() {
    for seed in 0..4 {
        let mut operations = played(&mut Random::new(seed), 4000, 12);
        let begun = std::time::Instant::now();
        assert!(is_linearizable(&operations), "seed {seed}");
        let late = operations.len() - 200;
        let read = operations.iter_mut().skip(late).find(|one| matches!(one.action, Read(Some(_))));
        let read = read.expect("a read");
        read.action = Read(Some(0));
        assert_ne!(check(&operations), Verdict::Linearizable, "seed {seed}");
        assert!(begun.elapsed().as_secs() < 20, "seed {seed} took {:?}", begun.elapsed());
    }
}

fn played(random: &mut Random, count: u64, clients: usize) -> Vec<Operation> {
    let mut state = None;
    let mut free = vec![0_u64; clients];
    let mut operations = Vec::new();
    let mut lost = 0;
    for number in 0..count {
        // Each has its effect at a moment of its own, 10 apart, and takes long before and after.
        let moment = 100 + number * 10;
        let client = (0..clients).find(|client| free[*client] < moment);
        let Some(client) = client else { continue };
        let invoked = free[client].max(moment - random.between(1, 60) as u64);
        let returned = moment + random.between(1, 60) as u64;
        free[client] = returned + 1;
        let is_lost = lost < 10 && random.one_in(200);
        let action = match random.between(0, 9) {
            0..=2 => Write(number + 1),
            3 => Delete { found: (!is_lost).then_some(state.is_some()) },
            4 => Listed(state.is_some()),
            _ => Read(state),
        };
        if is_lost && !action.only_looks() {
            lost += 1;
            operations.push(open(action, invoked));
            if random.one_in(2) {
                continue;
            }
        } else {
            operations.push(done(action, invoked, returned));
        }
        state = action.apply(state).expect("it was made so");
    }
    operations.sort_by_key(|one| one.invoked);
    operations
}
