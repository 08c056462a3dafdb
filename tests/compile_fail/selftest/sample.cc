// SPDX-License-Identifier: Apache-2.0
// What the harness is tested with; not one of its cases.
#ifdef WRONG_TYPE
int value = "text";
#elif defined(WRONG_BUT_COMPILES)
int value = 2;
#else
int value = 1;
#endif
