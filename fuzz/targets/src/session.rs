//! Frames of sessions, and relayed packets.

/// Datagrams of relayed peers, as a relay and as an end gets them: sender and packet, one after the other.
pub(crate) mod relay_packets {
    use codeco_protocol::hostile::{relayed, relayed_sample};

    use crate::input::{Input, Seed};

    pub(crate) fn run(data: &[u8]) {
        let mut input = Input::new(data);
        let mut datagrams = Vec::new();
        while !input.is_empty() && datagrams.len() < 256 {
            datagrams.push((input.byte() % 6, input.piece()));
        }
        let _ = relayed(&datagrams);
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let inner = [0x40; 40];
        let onward = relayed_sample(3, true, 4, &inner);
        let arrived = relayed_sample(2, false, 9, &inner);
        let all = Seed::default().byte(3).piece(&onward).byte(2).piece(&arrived).byte(4).piece(&onward);
        vec![all.0, Seed::default().byte(3).piece(&onward).0, Seed::default().byte(2).piece(&arrived).0]
    }
}

/// Requests, answers, and the frames they travel in.
pub(crate) mod session_frames {
    use codeco_actors::hostile::{session_answer, session_frame, session_request, session_samples};

    use crate::input::body;
    use crate::samples;

    pub(crate) fn run(data: &[u8]) {
        session_request(data);
        session_answer(data);
        session_frame(data);
    }

    pub(crate) fn seeds() -> Vec<Vec<u8>> {
        let batch = body(&samples::batch(vec![samples::control().swap_remove(0)]));
        [session_samples(&batch), session_samples(b"abc")].concat()
    }
}
