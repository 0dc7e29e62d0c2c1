// The header holds everything; a target needs a file to compile.
#include "CLinux.h"
