//! What the origin does, and the driver reports.

use chunk_core::scheduler::{Failure, Input, RunId, Start};

use crate::driver::{World, range};

impl World {
    /// The driver reports the end of every run that it was told to stop.
    pub(crate) fn confirm_aborts(&mut self) {
        let aborted = self.requests.iter().filter(|(_, run)| run.is_aborted);
        let aborted: Vec<RunId> = aborted.map(|(&id, _)| id).collect();
        for run in aborted {
            self.finish(run);
        }
    }

    /// The origin answers a run.
    pub(crate) fn answer(&mut self, run: RunId) {
        let Some(request) = self.requests.get_mut(&run) else {
            return;
        };
        if request.is_answered || request.is_aborted {
            return;
        }
        request.is_answered = true;
        let Some(open) = self.files.get_mut(&request.source) else {
            return;
        };
        let file = open.file;
        let total_len = file.is_length_told.then_some(file.len);
        if !file.has_ranges {
            request.start = 0;
            request.head = 0;
            open.knows_length |= file.is_length_told;
            request.end = if open.knows_length {
                file.len
            } else {
                u64::MAX
            };
            self.input(Input::Answered {
                run,
                start: 0,
                end: total_len,
                total_len,
                accepts_ranges: false,
            });
            return;
        }
        let start = match request.asked {
            Start::At(at) => at,
            Start::FromEnd(len) => file.len.saturating_sub(len),
        };
        if start >= file.len {
            // 416: the answer tells the length.
            let id = request.source;
            open.knows_length = true;
            request.end = file.len;
            self.input(Input::LengthLearned {
                source: id,
                total_len: file.len,
            });
            self.requests.remove(&run);
            self.input(Input::Finished { run });
            return;
        }
        open.knows_length |= file.is_length_told || matches!(request.asked, Start::FromEnd(_));
        request.start = start;
        request.head = start;
        request.end = request.end.min(file.len);
        let end = Some(request.end);
        self.input(Input::Answered {
            run,
            start,
            end,
            total_len,
            accepts_ranges: true,
        });
    }

    /// Up to `most` bytes of a run arrive; returns how many did.
    pub(crate) fn progress(&mut self, run: RunId, most: u64) -> u64 {
        let Some(request) = self.requests.get_mut(&run) else {
            return 0;
        };
        if !request.is_answered {
            return 0;
        }
        let bytes = request
            .until
            .min(request.end)
            .min(request.file_len)
            .saturating_sub(request.head)
            .min(most);
        if bytes == 0 {
            return 0;
        }
        let arrived = range(request.head, request.head + bytes);
        request.head += bytes;
        self.bytes_received += bytes;
        if let Some(open) = self.files.get_mut(&request.source) {
            open.present.insert(arrived);
        }
        self.input(Input::Progressed { run, bytes });
        bytes
    }

    /// A run that is complete or was told to stop ends.
    pub(crate) fn finish(&mut self, run: RunId) -> bool {
        let Some(request) = self.requests.get(&run) else {
            return false;
        };
        // An end that was not announced shows only to who reads on.
        let is_at_end = request.head >= request.file_len && request.until > request.head;
        let is_complete = request.is_answered && (request.head >= request.end || is_at_end);
        if !is_complete && !request.is_aborted {
            return false;
        }
        let request = self.requests.remove(&run).unwrap();
        if is_complete
            && !request.is_aborted
            && let Some(open) = self.files.get_mut(&request.source)
            && !open.file.has_ranges
        {
            open.knows_length = true;
        }
        self.input(Input::Finished { run });
        true
    }

    pub(crate) fn fail(&mut self, run: RunId, failure: Failure) {
        if let Some(request) = self.requests.remove(&run) {
            if let Some(open) = self.files.get_mut(&request.source) {
                open.is_troubled = true;
            }
            self.input(Input::Failed { run, failure });
        }
    }
}
