// The emulated side of cuda/device/mbarrier.cuh is in mbarrier.cc.
#pragma once
