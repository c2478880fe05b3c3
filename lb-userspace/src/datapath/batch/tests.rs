//! Batches against maps of the kernel's own; skipped where making one takes rights we do not have.

use super::*;

/// An array with room for so many; `None`, saying why, if that is not allowed.
fn array(len: u32) -> Option<Array<MapData, u64>> {
    let map = Array::create(len, 0);
    if map.is_err() {
        eprintln!("skipped: making BPF maps takes root");
    }
    map.ok()
}

fn hash(len: u32) -> Option<HashMap<MapData, u32, u64>> {
    array(1)?;
    Some(HashMap::create(len, 0).expect("arrays can be made"))
}

#[test]
fn scattered_elements_of_an_array_are_written_and_the_used_ones_read() {
    let Some(mut map) = array(100_000) else {
        return;
    };
    assert_eq!(read_used(&map).unwrap(), Vec::<u64>::new());
    update(&mut map, &[3, 40_000, 1, 20_000], &[30, 40, 10, 20]).unwrap();
    let used = read_used(&map).unwrap();
    assert_eq!(used.len(), 40_001);
    assert_eq!((&used[..5], used[40_000]), (&[0, 10, 0, 30, 0][..], 40));
    let set = used.iter().filter(|value| **value != 0);
    assert_eq!(set.count(), 4);
    for count in [0, 4, 16_384, 20_001, 100_000] {
        let first = read_first(&map, count).unwrap();
        assert_eq!(first.len(), count);
        assert_eq!(first[..count.min(40_001)], used[..count.min(40_001)]);
    }
}

#[test]
fn an_array_that_is_full_to_the_last_element_is_read_to_the_end() {
    for len in [CHUNK, 2 * CHUNK + 1] {
        let Some(mut map) = array(u32::try_from(len).unwrap()) else {
            return;
        };
        let keys: Vec<u32> = (0..map.len()).collect();
        let values: Vec<u64> = keys.iter().map(|key| u64::from(*key) + 1).collect();
        update(&mut map, &keys, &values).unwrap();
        assert_eq!(read_used(&map).unwrap(), values);
    }
}

#[test]
fn a_hash_is_read_whole_whatever_its_size() {
    for len in [0, 5, 50_000] {
        let Some(mut map) = hash(65_536) else {
            return;
        };
        let keys: Vec<u32> = (0..len).collect();
        let values: Vec<u64> = keys.iter().map(|key| u64::from(*key) * 7).collect();
        update(&mut map, &keys, &values).unwrap();
        let mut all = read(&map).unwrap();
        all.sort_unstable();
        assert_eq!(all, keys.into_iter().zip(values).collect::<Vec<_>>());
    }
}

#[test]
fn what_does_not_fit_is_an_error_of_the_kernels() {
    let (Some(mut map), Some(mut small)) = (array(4), hash(2)) else {
        return;
    };
    for error in [
        update(&mut map, &[1, 4], &[1, 1]).unwrap_err(),
        update(&mut small, &[1, 2, 3], &[1, 1, 1]).unwrap_err(),
    ] {
        let MapError::SyscallError(error) = error else {
            panic!("{error}");
        };
        assert_eq!(error.io_error.raw_os_error(), Some(libc::E2BIG));
    }
    assert_eq!(map.get(&1, 0).unwrap(), 1, "what came before it is written");
}

#[test]
fn one_by_one_gives_the_same_as_a_batch() {
    let (Some(mut map), Some(mut other)) = (array(10), hash(10)) else {
        return;
    };
    for (key, value) in [(2, 20), (7, 70)] {
        map.set_one(&key, &value).unwrap();
        other.set_one(&key, &value).unwrap();
    }
    assert_eq!(map.read_singly().unwrap(), read(&map).unwrap());
    let (mut single, mut batch) = (other.read_singly().unwrap(), read(&other).unwrap());
    single.sort_unstable();
    batch.sort_unstable();
    assert_eq!((&single, single.len()), (&batch, 2));
}
