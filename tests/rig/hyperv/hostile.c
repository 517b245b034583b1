/*
 * A guest that means harm: it sets the SynIC up, connects, opens every channel as Linux would, and then says anything
 * it likes, by hypercalls, registers, messages, rings and packets, TURNS times by the numbers of a generator that SEED
 * starts. In the end it makes one call as it should be made, and powers off. An Image (booting.rst) at EL1, MMU off, so
 * that all accesses are aligned.
 *
 * -D options: SEED, TURNS, ARENA_PA (2 MiB that it may use), RESULTS_PA (32 bytes).
 */
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

#define HYPERCALL       0x46000001
#define GET_REGISTER    0x100010050ull  /* fast, one register */
#define SET_REGISTER    0x100010051ull
#define POST_MESSAGE    0x5cull
#define SIGNAL_EVENT    0x1005dull      /* fast */
#define SYSTEM_OFF      0x84000008ull

#define GUEST_OS_ID     0x90002
#define VP_INDEX        0x90003
#define SINT2           0xa0002
#define SCONTROL        0xa0010
#define SIEFP           0xa0012
#define SIMP            0xa0013
#define EOM             0xa0014
#define CRASH_P0        0x210

/* enum vmbus_channel_message_type (Linux include/linux/hyperv.h) */
#define OFFER           1
#define REQUEST_OFFERS  3
#define ALL_OFFERS      4
#define OPEN            5
#define GPADL_HEADER    8
#define CONTACT         14
#define VERSION_RESPONSE 15
#define LAST_MESSAGE    24
#define VERSION_5_3     0x50003

#define PAGE            4096
#define RING_PAGES      8               /* of each ring: a header and seven of data */
#define CHANNELS        16
#define MESSAGE_BYTES   240
#define SLOT            512             /* of SINT2, 256 bytes each (struct hv_message_page) */
#define TRIES           20000

#define SIMP_PA         (ARENA_PA)
#define SIEFP_PA        (ARENA_PA + PAGE)
#define POST_PA         (ARENA_PA + 2 * PAGE)
#define RINGS_PA        (ARENA_PA + 16 * PAGE)
#define STACK_PA        (ARENA_PA + 0x1f0000)
#define TEXT_OF(number) TEXT(number)
#define TEXT(number)    #number

__asm__(
        ".global _start\n"
        "_start: b       1f\n"
        "        .word   0\n"
        "        .quad   0, 0x100000, 0, 0, 0, 0\n"      /* text_offset, image_size, flags */
        "        .ascii  \"ARM\\x64\"\n"
        "        .word   0\n"
        "1:      ldr     x0, =" TEXT_OF(STACK_PA) "\n"
        "        mov     sp, x0\n"
        "        b       hostile\n"
        "        .ltorg\n");

static u64 state = SEED * 0x9e3779b97f4a7c15ull + 1;
static u32 connection;
static u32 relids[CHANNELS];
static u32 connections[CHANNELS];
static u32 channels;

static u64 any(void)
{
        /* xorshift64 (Marsaglia, 2003) */
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
}

static u32 below(u32 bound)
{
        return (u32)((any() >> 20) % bound);
}

static volatile u32 *words(u64 pa)
{
        return (volatile u32 *)pa;
}

static volatile u64 *longs(u64 pa)
{
        return (volatile u64 *)pa;
}

struct answer {
        u64 status, low, high;
};

static struct answer call(u64 function, u64 control, u64 x2, u64 x3, u64 x4, u64 x6)
{
        register u64 r0 __asm__("x0") = function;
        register u64 r1 __asm__("x1") = control;
        register u64 r2 __asm__("x2") = x2;
        register u64 r3 __asm__("x3") = x3;
        register u64 r4 __asm__("x4") = x4;
        register u64 r5 __asm__("x5") = 0;
        register u64 r6 __asm__("x6") = x6;
        register u64 r7 __asm__("x7") = 0;

        __asm__ volatile("hvc #0"
                         : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7)
                         :
                         : "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "memory");
        return (struct answer){ r0, r6, r7 };
}

static void set_register(u64 name, u64 value)
{
        call(HYPERCALL, SET_REGISTER, ~0ull, ~1ull, name, value);
}

static void set_up(void)
{
        set_register(GUEST_OS_ID, 0x8100ull << 48);
        set_register(SIMP, SIMP_PA | 1);
        set_register(SIEFP, SIEFP_PA | 1);
        set_register(SINT2, 18);
        set_register(SCONTROL, 1);
}

/* struct hv_input_post_message, whose payload is already there. */
static void post(u32 bytes)
{
        volatile u32 *head = words(POST_PA);

        head[0] = connection;
        head[1] = 0;
        head[2] = 1;
        head[3] = bytes;
        call(HYPERCALL, POST_MESSAGE, POST_PA, 0, 0, 0);
}

static volatile u32 *payload(u32 type)
{
        volatile u32 *body = words(POST_PA + 16);

        body[0] = type;
        body[1] = 0;
        return body;
}

/* The next message of the host's, or 0; what it says of offers and versions is kept. */
static u32 take_message(void)
{
        volatile u32 *slot = words(SIMP_PA + SLOT);
        u32 kind = 0, flags;

        if (slot[0] == 0)
                return 0;
        kind = slot[4];
        if (kind == VERSION_RESPONSE)
                connection = slot[4 + 3];
        if (kind == OFFER && channels < CHANNELS) {
                /* child_relid and connection_id of struct vmbus_channel_offer_channel */
                relids[channels] = slot[4 + 46];
                connections[channels] = slot[4 + 48];
                channels++;
        }
        flags = slot[1];
        slot[0] = 0;
        __asm__ volatile("dsb sy" ::: "memory");
        if (flags & 0x100)
                set_register(EOM, 0);
        return kind ? kind : ~0u;
}

static void wait_for(u32 kind)
{
        u32 tries;

        for (tries = 0; tries < TRIES; tries++) {
                if (take_message() == kind)
                        return;
                call(HYPERCALL, GET_REGISTER, ~0ull, ~1ull, VP_INDEX, 0);
        }
}

static u64 ring(u32 channel)
{
        return RINGS_PA + (u64)channel * 2 * RING_PAGES * PAGE;
}

static void open_channel(u32 channel)
{
        volatile u32 *body = payload(GPADL_HEADER);
        u64 first = ring(channel);
        u32 at;

        for (at = 0; at < 2 * RING_PAGES * PAGE / 4; at += PAGE / 4)
                words(first)[at] = words(first)[at + 1] = words(first)[at + 2] = 0;
        words(first)[16] = 1;
        words(first + RING_PAGES * PAGE)[16] = 1;
        body[2] = relids[channel];
        body[3] = 0x100 + channel;                              /* gpadl */
        body[4] = (8 + 8 * 2 * RING_PAGES) | 1u << 16;          /* range_buflen, rangecount */
        body[5] = 2 * RING_PAGES * PAGE;
        body[6] = 0;
        for (at = 0; at < 2 * RING_PAGES; at++) {
                body[7 + 2 * at] = (u32)((first >> 12) + at);
                body[8 + 2 * at] = 0;
        }
        post(28 + 8 * 2 * RING_PAGES);
        body = payload(OPEN);
        body[2] = relids[channel];
        body[3] = relids[channel];
        body[4] = 0x100 + channel;
        body[5] = 0;
        body[6] = RING_PAGES;
        for (at = 7; at < 37; at++)
                body[at] = 0;
        post(148);
}

static void connect(void)
{
        volatile u32 *body;
        u32 at;

        set_up();
        connection = 4;
        channels = 0;
        body = payload(CONTACT);
        body[2] = VERSION_5_3;
        body[3] = 0;
        body[4] = 2;                                            /* msg_sint */
        body[5] = 0;
        *longs(POST_PA + 16 + 24) = ARENA_PA + 4 * PAGE;
        *longs(POST_PA + 16 + 32) = ARENA_PA + 5 * PAGE;
        post(40);
        wait_for(VERSION_RESPONSE);
        payload(REQUEST_OFFERS);
        post(8);
        wait_for(ALL_OFFERS);
        for (at = 0; at < channels; at++)
                open_channel(at);
}

/* Neither address nor page number of the first page of RAM, where this program is. */
static u64 one_bit(u32 at)
{
        return at == 30 || at == 18 ? 0 : 1ull << at;
}

/* A number that is likely to be looked at twice. */
static u64 some(void)
{
        u32 kind = below(8);

        if (kind == 0)
                return any();
        if (kind == 1)
                return ~0ull;
        if (kind == 2)
                return 0;
        if (kind == 3)
                return ARENA_PA + below(64) * PAGE + below(2) * below(PAGE);
        if (kind == 4)
                return (ARENA_PA >> 12) + below(300);
        if (kind == 5)
                return one_bit(below(64));
        return below(256);
}

static void any_call(void)
{
        u64 code = 0x50 + below(2) + 12 * below(2);
        u64 control = below(4) ? code | some() << 16 : some();

        call(HYPERCALL, control, some(), some(), some(), some());
}

static void any_register(void)
{
        static const u32 first[] = { CRASH_P0, GUEST_OS_ID, 0xa0000, SCONTROL };

        set_register(first[below(4)] + below(6), some());
}

static void any_message(void)
{
        volatile u32 *body = payload(below(LAST_MESSAGE + 2));
        u32 at, bytes = below(4) ? below(MESSAGE_BYTES / 4 + 1) * 4 : below(1 << 16);

        for (at = 2; at < MESSAGE_BYTES / 4; at++)
                body[at] = (u32)(below(3) ? some() : any());
        if (channels && below(4))
                body[2] = relids[below(channels)];
        if (below(4))
                body[3] = 0x100 + below(CHANNELS + 2);
        post(bytes);
        if (below(8) == 0) {
                words(POST_PA)[0] = (u32)some();
                words(POST_PA)[3] = (u32)some();
                call(HYPERCALL, POST_MESSAGE, POST_PA + below(PAGE), 0, 0, 0);
        }
}

static void signal(u32 channel)
{
        call(HYPERCALL, SIGNAL_EVENT, below(8) ? connections[channel] : some(), 0, 0, 0);
}

static void any_ring_header(void)
{
        u32 channel = below(channels);
        u64 which = ring(channel) + below(2) * RING_PAGES * PAGE;

        words(which)[below(5) ? below(4) : below(PAGE / 4)] = (u32)some();
        signal(channel);
}

/* One that may be a packet, where the host will look for it. */
static void any_packet(void)
{
        u32 channel = below(channels), bytes = 16 + 8 * below(40), at, write;
        u32 data = (RING_PAGES - 1) * PAGE, offset = 2 + (below(4) ? 0 : below(8));
        u64 out = ring(channel);
        static const u8 kinds[] = { 6, 7, 9, 11, 8, 10 };

        write = words(out)[0] % data & ~7u;
        for (at = 0; at < bytes; at += 4)
                words(out + PAGE)[(write + at) % data / 4] = (u32)(below(4) ? below(300) : some());
        words(out + PAGE)[write / 4] = (below(8) ? kinds[below(6)] : below(1 << 16)) | offset << 16;
        words(out + PAGE)[(write + 4) % data / 4] = (below(8) ? bytes / 8 : below(1 << 16)) | below(3) << 16;
        at = (write + bytes) % data;
        words(out + PAGE)[at / 4] = 0;
        words(out + PAGE)[(at + 4) % data / 4] = write;
        words(out)[0] = (write + bytes + 8) % data;
        signal(channel);
}

__attribute__((used, noreturn)) static void hostile(void)
{
        struct answer last;
        u32 turn, kind;

        for (turn = 0; turn < TURNS; turn++) {
                if (turn % 64 == 0)
                        connect();
                kind = below(10);
                if (kind == 0)
                        any_call();
                else if (kind == 1)
                        any_register();
                else if (kind < 4)
                        any_message();
                else if (channels && kind < 5)
                        any_ring_header();
                else if (channels)
                        any_packet();
                if (below(2))
                        take_message();
        }
        last = call(HYPERCALL, GET_REGISTER, ~0ull, ~1ull, VP_INDEX, 0);
        longs(RESULTS_PA)[1] = last.status;
        longs(RESULTS_PA)[2] = last.low | last.high;
        longs(RESULTS_PA)[3] = channels;
        longs(RESULTS_PA)[0] = turn;
        for (;;)
                call(SYSTEM_OFF, 0, 0, 0, 0, 0);
}
