// The emulated side of cuda/device/mma.cuh is in mma.cc.
#pragma once
