/* A subscriber in C, written from the protocol's document (inspectd/wire/README.md) alone.
 *
 *     cc -o listen listen.c -lczmq -lzmq
 *     listen PUBLISHED CONTROL COUNT DROP [SERVER.key OWN.key_secret]
 *
 * Prints a line for everything that it hears: verdict, mask, state, daemon, gap, filled, missed, refused. Ends after
 * COUNT verdicts. Throws away the verdicts whose number ends in DROP (a digit; -: none), as if they had been lost.
 */
#include <czmq.h>

typedef struct { char epoch[64]; long seq; } place_t;

static zhash_t *places;
static zsock_t *control;
static long heard, count, request_id;
static char drop;

/* The value of a number or text field of a header: their names stand once in it, outside of lists. */
static bool text_of(const char *json, const char *name, char *into, size_t size) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":\"", name);
    const char *at = strstr(json, key);
    if (!at) return false;
    at += strlen(key);
    size_t length = strcspn(at, "\"");
    if (length >= size) return false;
    memcpy(into, at, length);
    into[length] = 0;
    return true;
}

static long number_of(const char *json, const char *name) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(json, key);
    return at ? atol(at + strlen(key)) : -1;
}

static void say(const char *what, const char *camera, long a, long b) {
    printf("%s %s %ld %ld %lld\n", what, camera, a, b, (long long) zclock_mono());
    fflush(stdout);
}

/* Ask for the verdicts behind `after` up to `until`; print what came. */
static void fill(const char *camera, const char *epoch, long after, long until) {
    say("gap", camera, after + 1, until);
    if (!control) return;
    char request[512];
    snprintf(request, sizeof request, "{\"id\":%ld,\"cmd\":\"verdicts\",\"camera\":\"%s\",\"epoch\":\"%s\",\"after\":%ld,"
             "\"limit\":%ld}", ++request_id, camera, epoch, after, until - after);
    zstr_send(control, request);
    zpoller_t *poller = zpoller_new(control, NULL);
    if (!zpoller_wait(poller, 5000)) {
        say("missed", camera, after + 1, until);
        zpoller_destroy(&poller);
        return;
    }
    zpoller_destroy(&poller);
    char *reply = zstr_recv(control);
    long last = after;
    for (char *at = reply; at && (at = strstr(at, "\"seq\":")); at++) {
        long seq = atol(at + 6);
        if (seq > last + 1) say("missed", camera, last + 1, seq - 1);
        say("filled", camera, seq, 0);
        heard++;
        last = seq;
    }
    if (last < until) say("missed", camera, last + 1, until);
    zstr_free(&reply);
}

/* Note that all up to `seq` should be known, and ask for what is not. */
static void come_to(const char *camera, const char *epoch, long seq) {
    place_t *place = zhash_lookup(places, camera);
    if (!place) {
        place = calloc(1, sizeof *place);
        snprintf(place->epoch, sizeof place->epoch, "%s", epoch);
        place->seq = seq;
        zhash_insert(places, camera, place);
    }
    if (strcmp(place->epoch, epoch)) {
        snprintf(place->epoch, sizeof place->epoch, "%s", epoch);
        place->seq = 0;
    }
    if (place->seq < seq) {
        fill(camera, epoch, place->seq, seq);
        place->seq = seq;
    }
}

static void hear(zsock_t *published) {
    zmsg_t *message = zmsg_recv(published);
    if (!message) return;
    char *topic = zmsg_popstr(message), *header = zmsg_popstr(message);
    zframe_t *bytes = zmsg_pop(message);
    char camera[64] = "", epoch[64] = "";
    text_of(header, "camera", camera, sizeof camera);
    text_of(header, "epoch", epoch, sizeof epoch);
    long seq = number_of(header, "seq");
    if (!strncmp(topic, "verdict/", 8)) {
        if (seq % 10 + '0' != drop) {
            come_to(camera, epoch, seq - 1);
            place_t *place = zhash_lookup(places, camera);
            if (seq > place->seq) {
                place->seq = seq;
                say("verdict", camera, seq, 0);
                heard++;
            }
        }
    } else if (!strncmp(topic, "mask/", 5)) {
        const char *mask = strstr(header, "\"mask\":");
        say("mask", camera, number_of(mask, "w") * number_of(mask, "h"), bytes ? (long) zframe_size(bytes) : -1);
    } else if (!strncmp(topic, "state/", 6)) {
        long last = number_of(header, "last_seq");
        say("state", camera, last, 0);
        come_to(camera, epoch, last);
    } else if (!strncmp(topic, "daemon/", 7)) {
        say("daemon", "-", number_of(header, "v"), 0);
    }
    zframe_destroy(&bytes);
    zstr_free(&topic);
    zstr_free(&header);
    zmsg_destroy(&message);
}

static void with_keys(zsock_t *socket, const char *server, zcert_t *own) {
    if (!own) return;
    zcert_t *theirs = zcert_load(server);
    assert(theirs);
    zcert_apply(own, socket);
    zsock_set_curve_serverkey(socket, zcert_public_txt(theirs));
    zcert_destroy(&theirs);
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 7) {
        fprintf(stderr, "listen PUBLISHED CONTROL COUNT DROP [SERVER.key OWN.key_secret]\n");
        return 2;
    }
    zsys_handler_set(NULL);
    count = atol(argv[3]);
    drop = argv[4][0];
    zcert_t *own = argc == 7 ? zcert_load(argv[6]) : NULL;
    places = zhash_new();
    zsock_t *published = zsock_new(ZMQ_SUB);
    control = zsock_new(ZMQ_DEALER);
    with_keys(published, argv[5], own);
    with_keys(control, argv[5], own);
    zactor_t *watchers[2] = {zactor_new(zmonitor, published), zactor_new(zmonitor, control)};
    for (int i = 0; i < 2; i++) {
        zstr_sendx(watchers[i], "LISTEN", "HANDSHAKE_FAILED_AUTH", NULL);
        zstr_send(watchers[i], "START");
        zsock_wait(watchers[i]);
    }
    const char *topics[] = {"verdict/", "mask/", "state/", "daemon/"};
    for (int i = 0; i < 4; i++) zsock_set_subscribe(published, topics[i]);
    zsock_set_linger(control, 0);
    if (zsock_connect(published, "%s", argv[1]) || zsock_connect(control, "%s", argv[2])) return 2;
    int result = 0;
    zpoller_t *poller = zpoller_new(published, watchers[0], watchers[1], NULL);
    while (heard < count) {
        void *which = zpoller_wait(poller, -1);
        if (which == published) hear(published);
        else if (which == watchers[0] || which == watchers[1]) {
            char *event = zstr_recv(which);
            bool is_control = which == watchers[1];
            say("refused", is_control ? "control" : "published", 0, 0);
            zstr_free(&event);
            if (is_control) {
                zpoller_remove(poller, watchers[1]);
                zactor_destroy(&watchers[1]);
                zsock_destroy(&control);
            } else {
                result = 3;
                break;
            }
        } else break;
    }
    zpoller_destroy(&poller);
    for (int i = 0; i < 2; i++) zactor_destroy(&watchers[i]);
    zsock_destroy(&published);
    zsock_destroy(&control);
    zcert_destroy(&own);
    zhash_destroy(&places);
    return result;
}
