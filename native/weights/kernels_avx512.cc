#define LANES 16
#include "weights/lanes.h"

namespace coldstart {

const Kernels kAvx512Kernels = {.quantize = KernelFor, .widen_halves = WidenHalves};

}  // namespace coldstart
