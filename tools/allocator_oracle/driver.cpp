// Runs events through the caching allocator of a PyTorch release and writes down its answers.
//
// Arguments: the memory fraction, 1 sets none; "stop" to end at the first out of memory.
// Standard input, one event a line:    a ID BYTES | f ID | e    (allocate, free, empty the cache)
// Standard output, one answer a line:  ALLOCATED RESERVED SEGMENTS RETRIES | null    (null: out of memory)
// and one line at the end:             PEAK_ALLOCATED PEAK_RESERVED

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/PeerToPeerAccess.h>

#include <iostream>
#include <string>
#include <unordered_map>

namespace allocator = c10::cuda::CUDACachingAllocator;

int main(int, char** arguments) {
  std::ios::sync_with_stdio(false);
  c10::cuda::detail::init_p2p_access_cache(1);
  allocator::init(1);
  const double fraction = std::stod(arguments[1]);
  if (fraction != 1.0) allocator::setMemoryFraction(fraction, 0);
  const bool stop = std::string(arguments[2]) == "stop";

  std::unordered_map<int64_t, void*> live;
  char kind;
  int64_t id, size;
  while (std::cin >> kind) {
    try {
      if (kind == 'a' && std::cin >> id >> size) {
        live[id] = allocator::raw_alloc(size);
      } else if (kind == 'f' && std::cin >> id) {
        const auto found = live.find(id);
        if (found != live.end()) {  // what ran out of memory never lived
          allocator::raw_delete(found->second);
          live.erase(found);
        }
      } else if (kind == 'e') {
        allocator::emptyCache();
      } else {
        std::cerr << "no event: a line that begins with " << kind << std::endl;
        return 2;
      }
    } catch (const c10::OutOfMemoryError&) {
      live.erase(id);
      std::cout << "null\n";
      if (stop) break;
      continue;
    }
    const auto stats = allocator::getDeviceStats(0);
    std::cout << stats.allocated_bytes[0].current << ' ' << stats.reserved_bytes[0].current << ' '
              << stats.segment[0].current << ' ' << stats.num_alloc_retries << '\n';
  }
  const auto stats = allocator::getDeviceStats(0);
  std::cout << stats.allocated_bytes[0].peak << ' ' << stats.reserved_bytes[0].peak << std::endl;
  std::_Exit(0);  // without the destructors, which expect a device
}
