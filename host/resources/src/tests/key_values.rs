//! One suite for every bucket, wherever it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use opyard_model::id::{Name, TenantId};
use opyard_model::plan::{Access, KeyValueDriver, ResourceSpec};
use opyard_store::conformance::samples::StillClock;
use opyard_store::{Store, StoreSettings};
use proptest::prelude::*;
use tokio::task::JoinSet;

use crate::error::ResourceError;
use crate::key_value::{KeyValueResource, MAX_NAME, MAX_NAMES_PAGE, MAX_VALUE};
use crate::pool::{Resources, file_url};
use crate::tests::at_once;

/// A yard, an object store in memory, and files: each with a handle of its own and one more.
struct Buckets {
    folder: tempfile::TempDir,
    store: Store,
    resources: Resources,
}

impl Buckets {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Self::open(folder.path());
        Self { folder, store, resources: Resources::default() }
    }

    fn open(folder: &std::path::Path) -> Store {
        let clock = Arc::new(StillClock::default());
        Store::open(StoreSettings::new(folder.join("yard.db"), "memory:///", clock)).unwrap()
    }

    fn yard(&self, tenant: &str, bucket: &str, most: Access, access: Access) -> KeyValueResource {
        let tenant = self.store.tenant(&TenantId::new(tenant).unwrap());
        let driver = KeyValueDriver::Yard { bucket: Name::new(bucket).unwrap() };
        let spec = ResourceSpec::KeyValue { driver, access: most, version: None };
        at_once(self.resources.key_value(&spec, access, |bucket| Ok(tenant.key_values(bucket)))).unwrap()
    }

    fn objects(&self, url: &str, access: Access) -> KeyValueResource {
        let driver = KeyValueDriver::ObjectStore { url: url.into() };
        let spec = ResourceSpec::KeyValue { driver, access: Access::ReadWrite, version: None };
        let no_yard = |_: &_| unreachable!("this is no bucket of the yard's");
        at_once(self.resources.key_value(&spec, access, no_yard)).unwrap()
    }

    fn files(&self, name: &str, access: Access) -> KeyValueResource {
        self.objects(&file_url(&self.folder.path().join(name)).unwrap(), access)
    }
}

/// What every bucket does, but for a swap with a revision. `reader` is the same bucket, only to be read.
async fn conforms(bucket: &KeyValueResource, reader: &KeyValueResource) {
    let put = async |name: &str, value: &[u8]| bucket.put(name, Bytes::copy_from_slice(value)).await;
    let get = async |name: &str| bucket.get(name).await.map(|entry| entry.map(|entry| entry.value));
    let swap = async |name: &str, expected: Option<&str>| {
        bucket.compare_and_swap(name, expected, Bytes::from_static(b"swapped")).await
    };

    assert_eq!(get("a").await, Ok(None));
    let first = put("a", b"1").await.unwrap();
    assert_eq!(bucket.get("a").await.unwrap().unwrap().revision, first, "what a put says is what a get says");
    let second = put("a", b"1").await.unwrap();
    assert_ne!(first, second, "every write changes it, of the same value too");
    assert_eq!(get("a").await, Ok(Some(Bytes::from_static(b"1"))));
    put("empty", b"").await.unwrap();
    assert_eq!(get("empty").await, Ok(Some(Bytes::new())));
    assert_eq!(swap("a", None).await, Err(ResourceError::Conflict), "there is a value");
    swap("new", None).await.unwrap();
    assert_eq!(swap("new", None).await, Err(ResourceError::Conflict));

    // Removing, and a revision from before.
    assert_eq!(bucket.remove("a").await, Ok(true));
    assert_eq!(bucket.remove("a").await, Ok(false));
    assert_eq!(get("a").await, Ok(None));
    let again = put("a", b"1").await.unwrap();
    assert!(again != first && again != second, "no revision comes again");

    // Names: what they may be, and that each is its own.
    let long = "x".repeat(MAX_NAME);
    let names = ["ä/ö", "..", "/", "A", " ", "a%2Fb", "a\\b", "a/b/c", "🦀", &long, &long[1..]];
    for name in names {
        put(name, name.as_bytes()).await.unwrap();
    }
    for name in names {
        assert_eq!(get(name).await, Ok(Some(Bytes::copy_from_slice(name.as_bytes()))), "{name}");
    }
    for wrong in ["", "a\nb", "\u{7f}", "a\0", &"x".repeat(MAX_NAME + 1)] {
        assert!(matches!(get(wrong).await, Err(ResourceError::Invalid(_))), "{wrong:?}");
        assert!(matches!(put(wrong, b"").await, Err(ResourceError::Invalid(_))), "{wrong:?}");
        assert!(matches!(bucket.remove(wrong).await, Err(ResourceError::Invalid(_))), "{wrong:?}");
    }
    let large = vec![7; MAX_VALUE];
    put("large", &large).await.unwrap();
    assert_eq!(get("large").await.unwrap().unwrap(), large);
    assert!(matches!(put("large", &[0; MAX_VALUE + 1]).await, Err(ResourceError::Limit(_))));
    for name in names.into_iter().chain(["large", "a", "new", "empty"]) {
        assert_eq!(bucket.remove(name).await, Ok(true), "{name}");
    }

    // Lists, in the order of bytes, page by page.
    let mut all: Vec<String> = (0..25).map(|number| format!("list/{number}")).collect();
    all.extend(["list".to_owned(), "lisu".to_owned(), "List".to_owned(), "list/é".to_owned(), "m".to_owned()]);
    for name in &all {
        put(name, b"").await.unwrap();
    }
    all.sort();
    for prefix in ["", "list/", "list/1", "l", "L", "lisu", "nothing", "é"] {
        for limit in [0, 1, 7, u32::MAX] {
            let (mut seen, mut token) = (Vec::new(), None);
            loop {
                let page = bucket.list_page(prefix, token.as_deref(), limit).await.unwrap();
                assert!(page.names.len() <= usize::try_from(limit.max(1)).unwrap().min(MAX_NAMES_PAGE));
                seen.extend(page.names);
                token = page.next;
                if token.is_none() {
                    break;
                }
            }
            let expected: Vec<_> = all.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
            assert_eq!(seen, expected, "{prefix:?} by {limit}");
        }
    }
    assert!(matches!(bucket.list_page("\n", None, 1).await, Err(ResourceError::Invalid(_))));
    assert!(matches!(bucket.list_page("", Some(""), 1).await, Err(ResourceError::Invalid(_))));
    // A token need not be a name that is there.
    assert_eq!(bucket.list_page("", Some("list/99999"), 1).await.unwrap().names, ["list/é"]);

    // Reading is not writing.
    assert_eq!(reader.get("m").await.unwrap().unwrap().value, Bytes::new());
    assert_eq!(reader.put("m", Bytes::new()).await, Err(ResourceError::Denied));
    assert_eq!(reader.compare_and_swap("m", None, Bytes::new()).await, Err(ResourceError::Denied));
    assert_eq!(reader.remove("m").await, Err(ResourceError::Denied));
    assert_eq!(reader.access(), Access::Read);
}

/// What buckets do that can be swapped with a revision.
async fn swaps(bucket: &KeyValueResource) {
    let swap = async |expected: Option<&str>, value: &'static [u8]| {
        bucket.compare_and_swap("swapped", expected, Bytes::from_static(value)).await
    };
    assert_eq!(swap(Some("1"), b"x").await, Err(ResourceError::Conflict), "there is no value");
    let first = swap(None, b"1").await.unwrap();
    let second = swap(Some(&first), b"2").await.unwrap();
    assert_eq!(swap(Some(&first), b"3").await, Err(ResourceError::Conflict));
    for wrong in ["", "nonsense", "-1", "99999999999999999999999", "1\r\nx: y", &"9".repeat(10_000)] {
        assert_eq!(swap(Some(wrong), b"3").await, Err(ResourceError::Conflict), "{wrong:.20}");
    }
    assert_eq!(bucket.get("swapped").await.unwrap().unwrap().value, Bytes::from_static(b"2"));
    bucket.remove("swapped").await.unwrap();
    assert_eq!(swap(Some(&second), b"3").await, Err(ResourceError::Conflict), "it is gone");
    swap(None, b"4").await.unwrap();
    assert_eq!(swap(Some(&second), b"5").await, Err(ResourceError::Conflict), "it is another one");
}

#[tokio::test]
async fn a_bucket_of_the_yard_conforms() {
    let buckets = Buckets::new();
    let bucket = buckets.yard("default", "one", Access::ReadWrite, Access::ReadWrite);
    let reader = buckets.yard("default", "one", Access::ReadWrite, Access::Read);
    conforms(&bucket, &reader).await;
    swaps(&bucket).await;
    let capped = buckets.yard("default", "one", Access::Read, Access::ReadWrite);
    assert_eq!(capped.access(), Access::Read, "a grant never gives more than the resource");
    // Neither another bucket nor another tenant sees anything of it.
    for other in [("default", "two"), ("other", "one")] {
        let other = buckets.yard(other.0, other.1, Access::ReadWrite, Access::ReadWrite);
        assert_eq!(other.list_page("", None, 10).await.unwrap().names, Vec::<String>::new());
        assert_eq!(other.get("m").await, Ok(None));
        assert_eq!(other.remove("m").await, Ok(false));
        other.put("m", Bytes::from_static(b"theirs")).await.unwrap();
    }
    assert_eq!(bucket.get("m").await.unwrap().unwrap().value, Bytes::new());
    // What was put is on disk.
    buckets.store.close().await;
    let reopened = Buckets { store: Buckets::open(buckets.folder.path()), ..buckets };
    let bucket = reopened.yard("default", "one", Access::ReadWrite, Access::ReadWrite);
    assert_eq!(bucket.get("m").await.unwrap().unwrap().value, Bytes::new());
    reopened.store.close().await;
}

#[tokio::test]
async fn a_bucket_in_an_object_store_conforms() {
    let buckets = Buckets::new();
    let reader = buckets.objects("memory:///b", Access::Read);
    let bucket = buckets.objects("memory:///b", Access::ReadWrite);
    conforms(&bucket, &reader).await;
    swaps(&bucket).await;
    for number in 0..=MAX_NAMES_PAGE {
        bucket.put(&format!("page/{number:04}"), Bytes::new()).await.unwrap();
    }
    let page = bucket.list_page("page/", None, u32::MAX).await.unwrap();
    assert_eq!((page.names.len(), page.next.as_deref()), (MAX_NAMES_PAGE, Some("page/0999")));
    assert_eq!(bucket.list_page("page/", page.next.as_deref(), u32::MAX).await.unwrap().names, ["page/1000"]);
}

/// Files cannot be replaced on a condition; all else is the same.
#[tokio::test]
async fn a_bucket_of_files_conforms_but_for_swapping() {
    let buckets = Buckets::new();
    let bucket = buckets.files("b", Access::ReadWrite);
    conforms(&bucket, &buckets.files("b", Access::Read)).await;
    let revision = bucket.put("a", Bytes::new()).await.unwrap();
    let refused = bucket.compare_and_swap("a", Some(&revision), Bytes::new()).await;
    assert!(matches!(&refused, Err(ResourceError::Invalid(text)) if text.contains("folder of files")), "{refused:?}");
    // Files of somebody else are neither listed nor taken for values.
    std::fs::write(buckets.folder.path().join("b/README.md"), "hello").unwrap();
    std::fs::write(buckets.folder.path().join("b/c8"), "not a value").unwrap();
    assert!(!bucket.list_page("", None, 100).await.unwrap().names.contains(&"README.md".to_owned()));
    assert!(matches!(bucket.get("b").await, Err(ResourceError::Unavailable(_))));
    bucket.put("b", Bytes::from_static(b"a value")).await.unwrap();
    assert_eq!(bucket.get("b").await.unwrap().unwrap().value, Bytes::from_static(b"a value"));
}

/// Counts up by swapping, each time that nobody else was faster; says how often it was.
async fn count_up(bucket: KeyValueResource, times: u32) -> u32 {
    let mut counted = 0;
    while counted < times {
        let before = bucket.get("count").await.unwrap();
        let count = before.as_ref().map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap());
        let expected = before.as_ref().map(|entry| entry.revision.as_str());
        match bucket.compare_and_swap("count", expected, Bytes::from((count + 1u32).to_string())).await {
            Ok(_) => counted += 1,
            Err(ResourceError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
    counted
}

/// Of those who expect the same, one succeeds: also in another handle of the same database, as another process has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_counted_twice_or_lost() {
    let buckets = Buckets::new();
    let other = Buckets {
        folder: tempfile::tempdir().unwrap(),
        store: Buckets::open(buckets.folder.path()),
        resources: Resources::default(),
    };
    let yard = |buckets: &Buckets| buckets.yard("default", "counters", Access::ReadWrite, Access::ReadWrite);
    let memory = buckets.objects("memory:///count", Access::ReadWrite);
    for handles in [vec![yard(&buckets), yard(&other), yard(&buckets), yard(&other)], vec![memory; 4]] {
        let last = handles[0].clone();
        let tasks: JoinSet<_> = handles.into_iter().map(|bucket| count_up(bucket, 25)).collect();
        let counted: u32 = tasks.join_all().await.into_iter().sum();
        assert_eq!(last.get("count").await.unwrap().unwrap().value, counted.to_string());
        assert_eq!(counted, 100);
    }
    other.store.close().await;
    buckets.store.close().await;
}

/// What is done to a bucket, by name and by which of two handles.
#[derive(Debug, Clone)]
enum Deed {
    Put(String, u8),
    Create(String, u8),
    /// With the revision that was seen last, or with the one before.
    Swap(String, u8, bool),
    Remove(String),
    List(String, u32),
}

fn deed() -> impl Strategy<Value = Deed> {
    let name = "[aä/]{1,3}";
    prop_oneof![
        (name, any::<u8>()).prop_map(|(name, value)| Deed::Put(name, value)),
        (name, any::<u8>()).prop_map(|(name, value)| Deed::Create(name, value)),
        (name, any::<u8>(), any::<bool>()).prop_map(|(name, value, stale)| Deed::Swap(name, value, stale)),
        name.prop_map(Deed::Remove),
        ("[aä/]{0,2}", 1u32..5).prop_map(|(prefix, limit)| Deed::List(prefix, limit)),
    ]
}

/// A value, its revision, and the revisions that it had before.
type Modelled = BTreeMap<String, (u8, String)>;

async fn does_as_a_map(handles: [KeyValueResource; 2], deeds: Vec<(Deed, bool)>) {
    let mut map = Modelled::new();
    let mut old: Vec<String> = vec!["0".to_owned()];
    for (deed, which) in deeds {
        let bucket = &handles[usize::from(which)];
        let bytes = |value: u8| Bytes::copy_from_slice(&[value]);
        let wrote = |(map, old): (&mut Modelled, &mut Vec<String>), name: String, value, revision: String| {
            assert!(!old.contains(&revision), "a revision came again");
            old.push(revision.clone());
            map.insert(name, (value, revision));
        };
        match deed {
            Deed::Put(name, value) => {
                let revision = bucket.put(&name, bytes(value)).await.unwrap();
                wrote((&mut map, &mut old), name, value, revision);
            }
            Deed::Create(name, value) => match bucket.compare_and_swap(&name, None, bytes(value)).await {
                Ok(revision) => {
                    assert!(!map.contains_key(&name));
                    wrote((&mut map, &mut old), name, value, revision);
                }
                Err(error) => assert!(error == ResourceError::Conflict && map.contains_key(&name), "{error}"),
            },
            Deed::Swap(name, value, stale) => {
                let seen = map.get(&name).map(|(_, revision)| revision.clone());
                let expected = if stale {
                    old.iter().rev().find(|old| Some(*old) != seen.as_ref()).cloned()
                } else {
                    seen.clone()
                };
                let Some(expected) = expected else { continue };
                match bucket.compare_and_swap(&name, Some(&expected), bytes(value)).await {
                    Ok(revision) => {
                        assert!(!stale);
                        wrote((&mut map, &mut old), name, value, revision);
                    }
                    Err(error) => assert!(error == ResourceError::Conflict && stale, "{error}"),
                }
            }
            Deed::Remove(name) => assert_eq!(bucket.remove(&name).await, Ok(map.remove(&name).is_some())),
            Deed::List(prefix, limit) => {
                let page = bucket.list_page(&prefix, None, limit).await.unwrap();
                let names: Vec<_> = map.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
                let limit = usize::try_from(limit).unwrap();
                assert_eq!(page.next.is_some(), names.len() > limit);
                assert_eq!(page.names, names.into_iter().take(limit).collect::<Vec<_>>());
            }
        }
    }
    for (name, (value, revision)) in &map {
        let entry = handles[0].get(name).await.unwrap().unwrap();
        assert_eq!((entry.value.as_ref(), &entry.revision), ([*value].as_slice(), revision));
    }
    assert_eq!(handles[1].list_page("", None, u32::MAX).await.unwrap().names, map.into_keys().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn buckets_do_as_a_map_does(deeds in proptest::collection::vec((deed(), any::<bool>()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let buckets = Buckets::new();
            let other = Buckets { folder: tempfile::tempdir().unwrap(), store: Buckets::open(buckets.folder.path()), resources: buckets.resources.clone() };
            let yard = |buckets: &Buckets| buckets.yard("default", "map", Access::ReadWrite, Access::ReadWrite);
            let memory = buckets.objects("memory:///map", Access::ReadWrite);
            does_as_a_map([yard(&buckets), yard(&other)], deeds.clone()).await;
            does_as_a_map([memory.clone(), memory], deeds).await;
            other.store.close().await;
            buckets.store.close().await;
        });
    }
}

/// The suite against a real object store over the network: see `remote` in the tests of the store.
#[tokio::test]
#[ignore = "needs a server: set OPYARD_TEST_OBJECTS"]
async fn remote_objects_are_a_bucket() {
    let place = std::env::var("OPYARD_TEST_OBJECTS").expect("OPYARD_TEST_OBJECTS names an empty place");
    let buckets = Buckets::new();
    let place = format!("{place}/key-values");
    let bucket = buckets.objects(&place, Access::ReadWrite);
    conforms(&bucket, &buckets.objects(&place, Access::Read)).await;
    swaps(&bucket).await;
    let tasks: JoinSet<_> = (0..4).map(|_| count_up(bucket.clone(), 10)).collect();
    assert_eq!(tasks.join_all().await.into_iter().sum::<u32>(), 40);
    assert_eq!(bucket.get("count").await.unwrap().unwrap().value, "40");
}
