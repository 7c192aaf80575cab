#define LANES 8
#include "weights/lanes/kernels.h"

namespace coldstart {

const Kernels kAvx2Kernels = {.quantize = KernelFor, .widen_halves = WidenHalves};

}  // namespace coldstart
