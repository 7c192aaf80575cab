#include "testing/cuda_emulation/race_detector.h"

#include <string>

namespace coldstart::cuda::emulation {

std::string NameOf(const Location& where) {
  std::string file = where.file_name();
  const size_t slash = file.rfind('/');
  if (slash != std::string::npos) file.erase(0, slash + 1);
  return file + ":" + std::to_string(where.line());
}

RaceDetector::RaceDetector(size_t bytes, const Actors* actors)
    : actors_(actors), words_((bytes + 3) / 4), split_(words_.size(), -1) {}

void RaceDetector::Check(uint32_t offset, uint32_t bytes, const Access& access) {
  const uint32_t end = offset + bytes;
  while (offset < end) {
    const uint32_t word = offset / 4;
    const bool whole = offset % 4 == 0 && end - offset >= 4;
    if (split_[word] < 0) {
      if (whole) {
        CheckCell(&words_[word], offset, 4, access);
        offset += 4;
        continue;
      }
      split_[word] = static_cast<int32_t>(bytes_of_.size());
      for (int i = 0; i < 4; ++i) {
        Cell copy = words_[word];
        if (copy.readers >= 0) {
          const int32_t clock = NewClock();
          clocks_[clock] = clocks_[copy.readers];
          copy.readers = clock;
        }
        if (copy.atomics >= 0) {
          const int32_t clock = NewClock();
          clocks_[clock] = clocks_[copy.atomics];
          copy.atomics = clock;
        }
        bytes_of_.push_back(copy);
      }
    }
    CheckCell(&bytes_of_[static_cast<size_t>(split_[word]) + offset % 4], offset, 1, access);
    ++offset;
  }
}

void RaceDetector::MakeBarrier(uint32_t offset, bool is_one) {
  for (uint32_t word = offset / 4; word < offset / 4 + 2; ++word) {
    words_[word].barrier = is_one;
    if (split_[word] >= 0) {
      for (int i = 0; i < 4; ++i) bytes_of_[static_cast<size_t>(split_[word]) + i].barrier = is_one;
    }
  }
}

void RaceDetector::CheckCell(Cell* cell, uint32_t offset, uint32_t bytes, const Access& access) {
  if (cell->barrier) {
    throw Failure(Fault::kMisuse, Describe(offset, bytes, access) + ", which are a barrier");
  }
  if (access.touch != Touch::kWrite && !cell->written) {
    throw Failure(Fault::kUninitialized, Describe(offset, bytes, access) + ", which nobody has written");
  }
  CheckWrite(*cell, offset, bytes, access);
  switch (access.touch) {
    case Touch::kRead:
      CheckAll(cell->atomics, "changed atomically", nullptr, offset, bytes, access);
      RecordRead(cell, access);
      break;
    case Touch::kAtomic:
      CheckReads(*cell, offset, bytes, access);
      if (cell->atomics < 0) cell->atomics = NewClock();
      clocks_[cell->atomics].Raise(access.actor, access.time);
      break;
    case Touch::kWrite:
      CheckReads(*cell, offset, bytes, access);
      CheckAll(cell->atomics, "changed atomically", nullptr, offset, bytes, access);
      FreeClock(&cell->readers);
      FreeClock(&cell->atomics);
      cell->read_time = 0;
      cell->written = true;
      cell->write_time = access.time;
      cell->writer = access.actor;
      cell->write_where = access.where;
      break;
  }
}

void RaceDetector::CheckWrite(const Cell& cell, uint32_t offset, uint32_t bytes, const Access& access) {
  if (cell.write_time == 0) return;
  if (!access.view->Knows(cell.writer, cell.write_time)) {
    Report("wrote", cell.writer, &cell.write_where, offset, bytes, access);
  }
  if (access.by_proxy && actors_->by_proxy[cell.writer] == 0 && !access.view->HasFenced(cell.writer, cell.write_time)) {
    throw Failure(Fault::kMissingFence, Describe(offset, bytes, access) + " through the asynchronous proxy, which " +
                                            actors_->name(cell.writer) + " wrote with an ordinary store (" +
                                            NameOf(cell.write_where) + ") and no FenceAsyncProxy after it");
  }
}

void RaceDetector::CheckReads(const Cell& cell, uint32_t offset, uint32_t bytes, const Access& access) {
  if (cell.readers >= 0) {
    CheckAll(cell.readers, "read", &cell.read_where, offset, bytes, access);
  } else if (cell.read_time != 0 && !access.view->Knows(cell.reader, cell.read_time)) {
    Report("read", cell.reader, &cell.read_where, offset, bytes, access);
  }
}

void RaceDetector::CheckAll(int32_t clock, const char* did, const Location* where, uint32_t offset, uint32_t bytes,
                            const Access& access) {
  if (clock < 0) return;
  const Clock& times = clocks_[clock];
  for (uint32_t actor = 0; actor < times.size(); ++actor) {
    if (!access.view->Knows(actor, times.at(actor))) Report(did, actor, where, offset, bytes, access);
  }
}

void RaceDetector::RecordRead(Cell* cell, const Access& access) {
  cell->read_where = access.where;
  if (cell->readers >= 0) {
    clocks_[cell->readers].Raise(access.actor, access.time);
    return;
  }
  // A write that is not ordered after the earlier read is not ordered after this one either, if this one came after
  // that.
  if (cell->read_time == 0 || access.view->Knows(cell->reader, cell->read_time)) {
    cell->read_time = access.time;
    cell->reader = access.actor;
    return;
  }
  cell->readers = NewClock();
  clocks_[cell->readers].Raise(cell->reader, cell->read_time);
  clocks_[cell->readers].Raise(access.actor, access.time);
}

int32_t RaceDetector::NewClock() {
  if (free_clocks_.empty()) {
    clocks_.emplace_back();
    return static_cast<int32_t>(clocks_.size() - 1);
  }
  const int32_t clock = free_clocks_.back();
  free_clocks_.pop_back();
  clocks_[clock].Clear();
  return clock;
}

void RaceDetector::FreeClock(int32_t* clock) {
  if (*clock >= 0) free_clocks_.push_back(*clock);
  *clock = -1;
}

std::string RaceDetector::Describe(uint32_t offset, uint32_t bytes, const Access& access) const {
  const char* does = access.touch == Touch::kRead    ? " reads"
                     : access.touch == Touch::kWrite ? " writes"
                                                     : " changes atomically";
  return actors_->name(access.actor) + does + (bytes == 1 ? " byte " : " bytes ") + std::to_string(offset) +
         (bytes == 1 ? "" : " to " + std::to_string(offset + bytes - 1)) + " of shared memory (" +
         NameOf(access.where) + ")";
}

void RaceDetector::Report(const char* did, uint32_t other, const Location* other_where, uint32_t offset, uint32_t bytes,
                          const Access& access) {
  throw Failure(Fault::kRace, Describe(offset, bytes, access) + ", which " + actors_->name(other) + " " + did +
                                  (other_where != nullptr ? " (" + NameOf(*other_where) + ")" : "") +
                                  ", with no barrier between");
}

}  // namespace coldstart::cuda::emulation
