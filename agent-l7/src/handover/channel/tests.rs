use std::os::fd::AsFd;

use rustix::pipe::pipe;

use super::super::format::{Hello, NEWEST, OLDEST, Ready, Remembered, Service, agree};
use super::*;

fn pair() -> (Channel, Channel) {
    let (near, far) = UnixStream::pair().unwrap();
    (Channel::new(near).unwrap(), Channel::new(far).unwrap())
}

#[test]
fn words_come_in_order_each_with_its_descriptors() {
    let (near, far) = pair();
    let (out, into) = pipe().unwrap();
    near.say(Word::Hello(Hello { oldest: 1, newest: 3 })).unwrap();
    near.give(Word::Ready(Ready { refused: vec![7] }), &[out.as_fd(), into.as_fd()]).unwrap();
    let (hello, none) = far.hear().unwrap();
    assert_eq!((hello, none.len()), (Word::Hello(Hello { oldest: 1, newest: 3 }), 0));
    let (ready, two) = far.hear().unwrap();
    assert_eq!(ready, Word::Ready(Ready { refused: vec![7] }));
    drop((out, into));
    let [out, into] = two.try_into().unwrap();
    rustix::io::write(&into, b"!").unwrap();
    assert_eq!(rustix::io::read(&out, &mut [0; 9]), Ok(1));
}

#[test]
fn as_many_descriptors_as_the_kernel_passes_go_beside_a_long_word() {
    let (near, far) = pair();
    let (out, _into) = pipe().unwrap();
    let one = Remembered { client: "10.0.0.1".repeat(100), ..Remembered::default() };
    let word = Word::Service(Service { remembered: vec![one; 5000], ..Service::default() });
    std::thread::scope(|scope| {
        scope.spawn(|| near.give(word.clone(), &[out.as_fd(); DESCRIPTORS]).unwrap());
        let (heard, descriptors) = far.hear().unwrap();
        assert!(heard == word);
        assert_eq!(descriptors.len(), DESCRIPTORS);
    });
}

#[test]
fn an_end_and_nonsense_are_errors() {
    let (near, far) = pair();
    (&near.0).write_all(&[0, 0, 0, 1, 0, 0, 0, 0, 0xff]).unwrap();
    assert!(matches!(far.hear(), Err(ChannelError::Nonsense(_))));
    (&near.0).write_all(&[0, 0, 0, 0, 0, 0, 0, 9]).unwrap();
    assert!(matches!(far.hear(), Err(ChannelError::Truncated)));
    (&near.0).write_all(&[0; HEADER]).unwrap();
    assert!(matches!(far.hear(), Err(ChannelError::OutOfOrder)));
    drop(near);
    assert!(matches!(far.hear(), Err(ChannelError::Io(_))));
}

#[test]
fn releases_agree_on_the_newest_version_that_both_speak() {
    for (oldest, newest, agreed) in [
        (OLDEST, NEWEST, NEWEST),
        (OLDEST, NEWEST + 5, NEWEST),
        (NEWEST + 1, NEWEST + 5, 0),
        (0, OLDEST - 1, 0),
    ] {
        assert_eq!(agree(Hello { oldest, newest }), agreed, "{oldest} to {newest}");
    }
}
