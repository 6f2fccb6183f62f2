// The panel's product with the instructions that every processor has.
#define TIDEMARK_GEMM GemmBaseline
#include "kernels/host/gemm_serial.h"
