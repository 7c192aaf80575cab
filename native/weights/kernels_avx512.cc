#define LANES 16
#include "weights/lanes/kernels.h"

namespace coldstart {

const Kernels kAvx512Kernels = {.quantize = KernelFor, .widen_halves = WidenHalves};

}  // namespace coldstart
