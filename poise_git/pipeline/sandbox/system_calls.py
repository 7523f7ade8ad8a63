"""Numbers of the system calls that a policy may name: asm/unistd_64.h for x86_64, asm-generic/unistd.h for aarch64."""

from __future__ import annotations

# A name, its number on x86_64, and its number on aarch64, or a dash if an architecture lacks the call. Calls newer than
# 2019 have the same number everywhere.
_TABLE = """
read 0 63, write 1 64, open 2 -, close 3 57, stat 4 -, fstat 5 80, lstat 6 -, poll 7 -, lseek 8 62,
mmap 9 222, mprotect 10 226, munmap 11 215, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135,
rt_sigreturn 15 139, ioctl 16 29, pread64 17 67, readv 19 65, writev 20 66, access 21 -, select 23 -,
sched_yield 24 124, mremap 25 216, madvise 28 233, shmget 29 194, shmat 30 196, shmctl 31 195, dup 32 23,
dup2 33 -, pause 34 -, nanosleep 35 101, getitimer 36 102, setitimer 38 103, getpid 39 172,
socket 41 198, connect 42 203, accept 43 202, sendto 44 206, recvfrom 45 207, sendmsg 46 211,
recvmsg 47 212, shutdown 48 210, bind 49 200, listen 50 201, getsockname 51 204, getpeername 52 205,
socketpair 53 199, getsockopt 55 209, clone 56 220, fork 57 -, vfork 58 -, execve 59 221, exit 60 93,
kill 62 129, uname 63 160, semget 64 190, semop 65 193, semctl 66 191, shmdt 67 197, msgget 68 186,
msgsnd 69 189, msgrcv 70 188, msgctl 71 187, fcntl 72 25, getdents 78 -, getcwd 79 17, rename 82 -,
mkdir 83 -, creat 85 -, unlink 87 -, readlink 89 -, gettimeofday 96 169, getrlimit 97 163,
getrusage 98 165, sysinfo 99 179, times 100 153, ptrace 101 117, getuid 102 174, syslog 103 116,
getgid 104 176, geteuid 107 175, getegid 108 177, getppid 110 173, getpgrp 111 -, getgroups 115 158,
getresuid 118 148, getresgid 120 150, capget 125 90, capset 126 91, rt_sigpending 127 136,
rt_sigtimedwait 128 137, rt_sigsuspend 130 133, sigaltstack 131 132, uselib 134 -, personality 135 92,
statfs 137 43, fstatfs 138 44, vhangup 153 58, modify_ldt 154 -, pivot_root 155 41, _sysctl 156 -,
prctl 157 167, adjtimex 159 171, chroot 161 51, acct 163 89, settimeofday 164 170, mount 165 40,
umount2 166 39, swapon 167 224, swapoff 168 225, reboot 169 142, sethostname 170 161,
setdomainname 171 162, iopl 172 -, ioperm 173 -, create_module 174 -, init_module 175 105,
delete_module 176 106, quotactl 179 60, nfsservctl 180 42, gettid 186 178, tkill 200 130, time 201 -,
futex 202 98, sched_getaffinity 204 123, lookup_dcookie 212 18, epoll_create 213 -, getdents64 217 61,
set_tid_address 218 96, restart_syscall 219 128, semtimedop 220 192, fadvise64 221 223,
clock_settime 227 112, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115,
exit_group 231 94, epoll_wait 232 -, epoll_ctl 233 21, tgkill 234 131, get_mempolicy 239 236,
mq_open 240 180, mq_unlink 241 181, mq_timedsend 242 182, mq_timedreceive 243 183, mq_notify 244 184,
mq_getsetattr 245 185, kexec_load 246 104, add_key 248 217, request_key 249 218, keyctl 250 219,
openat 257 56, newfstatat 262 79, readlinkat 267 78, faccessat 269 48, pselect6 270 72, ppoll 271 73,
unshare 272 97, set_robust_list 273 99, epoll_pwait 281 22, accept4 288 242, epoll_create1 291 20,
dup3 292 24, preadv 295 69, perf_event_open 298 241, fanotify_init 300 262, fanotify_mark 301 263,
prlimit64 302 261, name_to_handle_at 303 264, open_by_handle_at 304 265, clock_adjtime 305 266,
setns 308 268, getcpu 309 168, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272,
finit_module 313 273, seccomp 317 277, getrandom 318 278, memfd_create 319 279, kexec_file_load 320 294,
bpf 321 280, execveat 322 281, userfaultfd 323 282, preadv2 327 286, statx 332 291, rseq 334 293,
pidfd_send_signal 424 424, io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427,
open_tree 428 428, move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433,
pidfd_open 434 434, clone3 435 435, close_range 436 436, openat2 437 437, pidfd_getfd 438 438,
faccessat2 439 439, process_madvise 440 440, mount_setattr 442 442, quotactl_fd 443 443,
landlock_create_ruleset 444 444, landlock_add_rule 445 445, landlock_restrict_self 446 446,
memfd_secret 447 447, process_mrelease 448 448, statmount 457 457, listmount 458 458,
lsm_set_self_attr 460 460, open_tree_attr 467 467, listns 470 470
"""
_ARCHITECTURES = ("x86_64", "aarch64")
_NUMBERS = {
    name: {machine: int(number) for machine, number in zip(_ARCHITECTURES, numbers, strict=True) if number != "-"}
    for name, *numbers in (entry.split() for entry in _TABLE.replace("\n", " ").split(","))
}
# Calls of Linux 6.18. Later calls are unknown here, so they cannot be judged.
NEWEST = 470


def number_of(name: str, machine: str) -> int | None:
    """The number of the system call `name`, or None if the architecture `machine` lacks the call.

    Raises:
        KeyError: there is no such call, or it is not in the table.
    """
    return _NUMBERS[name].get(machine)
